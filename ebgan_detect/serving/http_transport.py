"""A connection that speaks HTTP.

The client runs on gevent, whose event loop belongs to the thread that made it: a connection is
made, used and closed by one thread, and takes that thread's loop along.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from ebgan_detect.errors import MissingDependencyError, ServerError
from ebgan_detect.serving.settings import Settings
from ebgan_detect.serving.transport import TimedOutError, Transport, UnavailableError

__all__ = ["HttpTransport"]

MAY_PASS = ("429", "502", "503", "504")
"""Status codes of a server or proxy that is busy, starting or ending."""


class HttpTransport(Transport):
    """Connection that speaks HTTP.

    Parameters
    ----------
    settings : Settings
        Where the model is, and how to ask it.
    """

    def __init__(self, settings: Settings) -> None:
        try:
            import tritonclient.http as library
        except ImportError as error:
            raise MissingDependencyError(
                "an HTTP client needs tritonclient[http]: pip install 'ebgan-detect[triton]'"
            ) from error
        client = library.InferenceServerClient(
            settings.address.target,
            connection_timeout=settings.request_timeout,
            network_timeout=settings.request_timeout,
            ssl=settings.address.secure,
            ssl_context_factory=_context_factory(settings) if settings.address.secure else None,
        )
        super().__init__(library, client, settings)

    @override
    def config(self, timeout: float) -> Mapping[str, Any]:
        config: Mapping[str, Any] = self.ask(
            "get_model_config", self.settings.model, self.settings.version, timeout=timeout
        )
        return config

    @override
    def ask(self, method: str, *arguments: Any, timeout: float, **options: Any) -> Any:
        import gevent  # type: ignore[import-untyped]
        from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError
        from tritonclient.utils import InferenceServerException

        function = getattr(self.client, method)
        # The client's own limits start anew with every packet; this one does not.
        limit = gevent.Timeout(max(timeout, 0.0))
        try:
            with limit:
                return function(*arguments, headers=dict(self.settings.headers), **options)
        except gevent.Timeout as error:
            if error is not limit:
                raise
            raise TimedOutError(f"no answer within {timeout:.3g} s") from error
        except InferenceServerException as error:
            text = f"{error.message()} (HTTP {error.status()})"
            kind = UnavailableError if error.status() in MAY_PASS else ServerError
            raise kind(text) from error
        except TimeoutError as error:
            raise TimedOutError(str(error)) from error
        except gevent.ssl.SSLCertVerificationError as error:
            raise ServerError(str(error)) from error
        except (OSError, HTTPConnectionClosed) as error:
            raise UnavailableError(str(error) or type(error).__name__) from error
        except HTTPParseError as error:
            raise ServerError(f"the server does not speak HTTP: {error}") from error

    @override
    def answered_by(self, result: Any) -> str:
        return str(result.get_response()["model_version"])

    @override
    def close(self) -> None:
        import gevent.monkey  # type: ignore[import-untyped]

        super().close()
        if not gevent.monkey.is_module_patched("threading"):
            hub = gevent.get_hub()
            hub.destroy(destroy_loop=True)
            # A loop left half-way stays in memory for ever, and with it all that its thread used.
            hub.throw(gevent.GreenletExit)


def _context_factory(settings: Settings) -> Any:
    """A function that makes a TLS context; the client names its own root certificates."""

    def make(cafile: str | None = None) -> Any:
        import gevent.ssl  # type: ignore[import-untyped]

        context = gevent.ssl.create_default_context(cafile=settings.root_certificates or cafile)
        if settings.certificate_chain is not None:
            context.load_cert_chain(settings.certificate_chain, settings.private_key)
        return context

    return make
