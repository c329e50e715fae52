"""A connection that speaks gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from ebgan_detect.errors import MissingDependencyError, ServerError
from ebgan_detect.serving.address import Address
from ebgan_detect.serving.settings import Settings
from ebgan_detect.serving.transport import TimedOutError, Transport, UnavailableError

__all__ = ["GrpcTransport"]

MAX_MESSAGE = 2**31 - 1


class GrpcTransport(Transport):
    """Connection that speaks gRPC.

    Parameters
    ----------
    settings : Settings
        Where the model is, and how to ask it.
    """

    def __init__(self, settings: Settings) -> None:
        try:
            import tritonclient.grpc as library
        except ImportError as error:
            raise MissingDependencyError(
                "a gRPC client needs tritonclient[grpc]: pip install 'ebgan-detect[triton]'"
            ) from error
        client = library.InferenceServerClient(
            settings.address.target,
            ssl=settings.address.secure,
            root_certificates=settings.root_certificates,
            private_key=settings.private_key,
            certificate_chain=settings.certificate_chain,
            channel_args=_channel_options(settings.address),
        )
        super().__init__(library, client, settings)
        # gRPC takes lower-case names only.
        self.headers = {name.lower(): value for name, value in settings.headers.items()}

    @override
    def config(self, timeout: float) -> Mapping[str, Any]:
        answer = self.ask(
            "get_model_config",
            self.settings.model,
            self.settings.version,
            as_json=True,
            timeout=timeout,
        )
        config: Mapping[str, Any] = answer["config"]
        return config

    @override
    def ask(self, method: str, *arguments: Any, timeout: float, **options: Any) -> Any:
        from tritonclient.utils import InferenceServerException

        function = getattr(self.client, method)
        try:
            return function(
                *arguments, headers=self.headers, client_timeout=max(timeout, 0.0), **options
            )
        except InferenceServerException as error:
            status = str(error.status()).removeprefix("StatusCode.")
            text = f"{error.message()} ({status})"
            if status == "UNAVAILABLE":
                raise UnavailableError(text) from error
            if status == "DEADLINE_EXCEEDED":
                raise TimedOutError(f"no answer within {timeout:.3g} s") from error
            raise ServerError(text) from error

    @override
    def answered_by(self, result: Any) -> str:
        return str(result.get_response().model_version)


def _channel_options(address: Address) -> list[tuple[str, int]]:
    """Options of a channel that comes back quickly when its server does."""
    options = [
        ("grpc.max_send_message_length", MAX_MESSAGE),
        ("grpc.max_receive_message_length", MAX_MESSAGE),
        # Otherwise channels share sockets, and the waiting time after a refused connection.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if address.is_local:
        options.append(("grpc.enable_http_proxy", 0))
    return options
