"""`TritonDetector`: a served detector with the interface of a local one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import OutlierMixin

from ebgan_detect.errors import InvalidParameterError, ServerError
from ebgan_detect.interchange import OUTPUTS
from ebgan_detect.parameters import Rule, check_parameters, integer, none_or, real
from ebgan_detect.serving.address import Address
from ebgan_detect.serving.call import Call
from ebgan_detect.serving.connections import KeepsConnections
from ebgan_detect.serving.headers import check_headers
from ebgan_detect.serving.results import Values
from ebgan_detect.serving.served import ServedModel
from ebgan_detect.serving.session import Session
from ebgan_detect.serving.settings import LONGEST_WAIT, Settings
from ebgan_detect.serving.validation import checked_rows

__all__ = ["TritonDetector"]

ATTRIBUTE_SECONDS = 5.0
"""Longest wait for an attribute: notebooks read them all to show an object."""


def _text(text: str, holds: Callable[[str], bool] = bool) -> Rule:
    """A rule for strings."""
    return Rule(lambda v: isinstance(v, str) and holds(v), text)


_FILE = none_or(Rule(lambda v: isinstance(v, str | Path) and Path(v).is_file(), "a PEM file"))


class TritonDetector(OutlierMixin, KeepsConnections):
    """A detector that runs on a Triton server, called like one in this process.

    There is nothing to fit: `export_triton` has written the fitted detector, and the server
    answers. Every call opens its own connections and closes them again. In a ``with`` block
    they stay open from call to call, which makes small calls several times faster; the object
    may then be used by several threads. Blocks within a block share its connections.

    Input is checked here before any row is sent. It travels in the type that the model takes:
    float32, so that a row counts as its nearest float32 numbers, or uint8.

    Parameters
    ----------
    url : str
        ``HOST:PORT`` or ``grpc://HOST:PORT`` for gRPC (port 8001 unless the server was told
        otherwise), ``http://HOST:PORT`` for HTTP (8000); ``grpcs://`` and ``https://`` for TLS.
    model : str
        Name of the model.
    version : str, default=''
        Version of the model; the newest one when empty.
    batch_size : int or None, default=None
        Rows in a request; as many as the server takes when None.
    concurrency : int, default=4
        Most requests in flight, each on a thread of its own.
    deadline : float or None, default=None
        Longest time for a whole call [s].
    request_timeout : float, default=60.0
        Longest wait for the answer to one request [s].
    retries : int, default=5
        Further tries, after pauses that double from 0.1 s up to 2 s, when the server is
        unavailable. Nothing else is tried again.
    shared_memory : {'auto', True, False}, default='auto'
        Whether rows go to the server through system shared memory, which must be the same
        on both sides. `'auto'`: large requests to this machine do if the server can.
    headers : mapping of str to str or None, default=None
        HTTP headers or gRPC metadata for every request, such as an authorization. Binary
        metadata, whose names end in -bin, cannot be sent.
    root_certificates, private_key, certificate_chain : path-like or None, default=None
        PEM files for TLS: certificates to trust instead of the system's, and the client's own.

    Attributes
    ----------
    offset_ : float
        Threshold of the served model. It and the others are asked of the server at each access,
        once and over a connection of their own.
    input_shape_ : tuple of int
        Shape of one row.
    n_features_in_ : int
        Number of values in a row.
    feature_names_in_ : ndarray of str
        Names of the columns, where the detector was fitted with some.

    See Also
    --------
    EBGANDetector : The detector to fit and export.

    Examples
    --------
    >>> from ebgan_detect.serving import TritonDetector
    >>> detector = TritonDetector("grpc://localhost:8001", "energy", deadline=10.0)
    >>> detector.score_samples(X)  # doctest: +SKIP
    array([-0.213, -0.187, -4.902])
    """

    _rules: ClassVar[Mapping[str, Rule]] = {
        "url": _text("HOST:PORT, perhaps with a scheme before it"),
        "model": _text("the name of a model"),
        "version": _text(
            "a number as a str, or ''", lambda v: not v or (v.isascii() and v.isdecimal())
        ),
        "batch_size": none_or(integer(1)),
        "concurrency": integer(1),
        "deadline": none_or(real(0, closed="()")),
        "request_timeout": real(0, closed="()"),
        "retries": integer(0),
        "shared_memory": Rule(
            lambda v: isinstance(v, bool) or (isinstance(v, str) and v == "auto"),
            "'auto', True or False",
        ),
        "headers": none_or(
            Rule(
                lambda v: (
                    isinstance(v, Mapping)
                    and all(isinstance(text, str) for pair in v.items() for text in pair)
                ),
                "a mapping of str to str",
            )
        ),
        "root_certificates": _FILE,
        "private_key": _FILE,
        "certificate_chain": _FILE,
    }

    def __init__(
        self,
        url: str,
        model: str,
        *,
        version: str = "",
        batch_size: int | None = None,
        concurrency: int = 4,
        deadline: float | None = None,
        request_timeout: float = 60.0,
        retries: int = 5,
        shared_memory: bool | str = "auto",
        headers: Mapping[str, str] | None = None,
        root_certificates: str | Path | None = None,
        private_key: str | Path | None = None,
        certificate_chain: str | Path | None = None,
    ) -> None:
        self.url = url
        self.model = model
        self.version = version
        self.batch_size = batch_size
        self.concurrency = concurrency
        self.deadline = deadline
        self.request_timeout = request_timeout
        self.retries = retries
        self.shared_memory = shared_memory
        self.headers = headers
        self.root_certificates = root_certificates
        self.private_key = private_key
        self.certificate_chain = certificate_chain

    # --- what it answers --------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the parameters; the model has been fitted before.

        Parameters
        ----------
        X : object
            Ignored; present for scikit-learn's interface.
        y : None
            Ignored.

        Returns
        -------
        self
            The detector.

        Raises
        ------
        InvalidParameterError
            If parameters are outside their ranges; all are named at once.
        """
        self._settings()
        return self

    def energy(self, X: Any) -> NDArray[np.float64]:
        """Energy of each row: low on the data manifold, high off it.

        Parameters
        ----------
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows of the fitted shape [fitted unit]. Read in chunks, never copied whole.

        Returns
        -------
        ndarray of shape (n,), float64
            Energies in the unit of the served detector, of float32 precision; +inf where a row
            overflows in the networks.

        Raises
        ------
        InvalidInputError
            If `X` holds nan, infinity or what the model's input type cannot hold, or does not
            have the fitted shape. No row has been sent then.
        InvalidParameterError
            If parameters are outside their ranges.
        MissingDependencyError
            If tritonclient is not installed.
        ServerError
            If not every row could be answered; it carries those that were.
        """
        return self.outputs(X, "energy")["energy"].astype(np.float64, copy=False)

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Score of each row, the negative energy: lower is more abnormal.

        Parameters
        ----------
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows of the fitted shape.

        Returns
        -------
        ndarray of shape (n,), float64
            Negative energies.

        Raises
        ------
        InvalidInputError
            As in `energy`, and so are the other errors.
        """
        return self.outputs(X, "score")["score"].astype(np.float64, copy=False)

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Score of each row relative to the threshold.

        Parameters
        ----------
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows of the fitted shape.

        Returns
        -------
        ndarray of shape (n,), float64
            ``score_samples(X) - offset_``: >= 0 is an inlier.

        Raises
        ------
        InvalidInputError
            As in `energy`, and so are the other errors.
        """
        return self.outputs(X, "decision")["decision"].astype(np.float64, copy=False)

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Call each row an inlier or an outlier.

        Parameters
        ----------
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows of the fitted shape.

        Returns
        -------
        ndarray of shape (n,), int64
            +1 for inliers, -1 for outliers.

        Raises
        ------
        InvalidInputError
            As in `energy`, and so are the other errors.
        """
        return self.outputs(X, "label")["label"].astype(np.int64, copy=False)

    def p_values(self, X: Any) -> NDArray[np.float64]:
        """Conformal p-value of each row against the held-out calibration rows.

        Parameters
        ----------
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows of the fitted shape.

        Returns
        -------
        ndarray of shape (n,), float64
            p-values in (0, 1]; small is abnormal. Shares of the calibration rows to the last
            bit, although they travel as float32, so that comparing them with a level is exact;
            but float32 for a version that the server does not describe, one that is not the
            newest.

        Raises
        ------
        InvalidInputError
            As in `energy`, and so are the other errors.
        """
        return self.outputs(X, "p_value")["p_value"].astype(np.float64, copy=False)

    def outputs(self, X: Any, *names: str) -> Values:
        """Several answers from one pass over the rows.

        Parameters
        ----------
        X : array-like, Tensor, DataFrame, memmap or Dataset
            Rows of the fitted shape.
        *names : {'energy', 'score', 'decision', 'label', 'p_value'}
            Which answers; all when none is named.

        Returns
        -------
        dict of str to ndarray of shape (n,)
            float64, and int64 for labels.

        Raises
        ------
        InvalidParameterError
            If a name is unknown, or parameters are outside their ranges.
        InvalidInputError
            As in `energy`, and so are the other errors.
        """
        for name in names:
            if name not in OUTPUTS:
                raise InvalidParameterError(f"names must be among {list(OUTPUTS)}, got {name!r}")
        with self._connected() as session:
            call = Call(self.deadline, session.settings.request_timeout)
            served = session.served(call)
            rows = checked_rows(X, served, type(self).__name__)
            size = min(served.rows_in_request, self.batch_size or served.max_batch_size)
            return session.answer(rows, names or tuple(OUTPUTS), call, served, size)

    # --- what it knows of the model ---------------------------------------------------------

    @property
    def offset_(self) -> float:
        """Threshold of the served model.

        Returns
        -------
        float
            Score below which a row is an outlier.

        Raises
        ------
        AttributeError
            If the server does not say, as for a version that is not the newest.
        """
        offset = self._fact().offset
        if offset is None:
            raise AttributeError(f"offset_: the server does not say it for version {self.version}")
        return offset

    @property
    def input_shape_(self) -> tuple[int, ...]:
        """Shape of one row.

        Returns
        -------
        tuple of int
            ``(d,)``, ``(h, w)`` or ``(c, h, w)``.
        """
        return self._fact().input_shape

    @property
    def n_features_in_(self) -> int:
        """Number of values in a row.

        Returns
        -------
        int
            Their number.
        """
        return self._fact().n_features

    @property
    def feature_names_in_(self) -> NDArray[np.object_]:
        """Names of the columns.

        Returns
        -------
        ndarray of str
            In order.

        Raises
        ------
        AttributeError
            If the detector was fitted without names.
        """
        names = self._fact().feature_names
        if names is None:
            raise AttributeError("feature_names_in_: the served model was fitted without names")
        return np.array(names, dtype=object)

    def _settings(self) -> Settings:
        """The parameters, checked."""
        check_parameters({name: getattr(self, name) for name in self._rules}, self._rules)
        files = (self.root_certificates, self.private_key, self.certificate_chain)
        address = Address.parse(self.url)
        check_headers(self.headers or {}, address.protocol)
        return Settings(
            address,
            self.model,
            self.version,
            self.concurrency,
            min(float(self.request_timeout), LONGEST_WAIT),
            self.retries,
            self.shared_memory,
            dict(self.headers or {}),
            *(None if file is None else str(file) for file in files),
        )

    def _fact(self) -> ServedModel:
        """What the server says about the model; no attribute where it says nothing."""
        try:
            with Session(replace(self._settings(), retries=0)) as session:
                return session.served(Call(ATTRIBUTE_SECONDS, session.settings.request_timeout))
        except (ServerError, InvalidParameterError) as error:
            raise AttributeError(f"the server must be asked for it, and fails: {error}") from error

    def __sklearn_is_fitted__(self) -> bool:
        """The served model always is."""
        return True
