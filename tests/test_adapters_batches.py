import io
import pickle  # noqa: TID251 - clusters pickle what they send to their workers

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import ray
import torch
from pyarrow import parquet

from ebgan_detect import EBGANDetector, InvalidInputError, InvalidParameterError, save
from ebgan_detect.adapters import BatchScorer

NAMES = ["height", "width", "depth"]


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(240, 3)).round(6)


@pytest.fixture(scope="module")
def frame(rows):
    return pd.DataFrame(rows, columns=NAMES)


def saved(rows, folder):
    """A fitted detector, and its file."""
    detector = EBGANDetector(max_epochs=3, random_state=0).fit(rows)
    save(detector, folder / "model.ebgan")
    return detector, folder / "model.ebgan"


@pytest.fixture(scope="module")
def named(frame, tmp_path_factory):
    return saved(frame, tmp_path_factory.mktemp("named"))


@pytest.fixture(scope="module")
def nameless(rows, tmp_path_factory):
    return saved(rows, tmp_path_factory.mktemp("nameless"))


def test_columns_are_found_by_name_and_others_are_carried_along(named, frame):
    detector, file = named
    batch = frame.iloc[::2, ::-1].assign(id=range(120))
    scored = BatchScorer(file, "energy", "label")(batch)
    assert list(scored) == ["depth", "width", "height", "id", "energy", "label"]
    assert scored.index.equals(batch.index)
    np.testing.assert_array_equal(scored["energy"], detector.energy(frame.iloc[::2]))
    np.testing.assert_array_equal(scored["label"], detector.predict(frame.iloc[::2]))
    assert list(batch) == ["depth", "width", "height", "id"]


@pytest.mark.parametrize(
    "kind",
    [lambda f: f, pa.Table.from_pandas, pa.RecordBatch.from_pandas, lambda f: dict(f.items())],
    ids=["pandas", "table", "record batch", "dictionary"],
)
def test_batches_of_every_kind_come_back_as_they_came(named, frame, kind):
    detector, file = named
    batch = kind(frame)
    scored = BatchScorer(file)(batch)
    assert type(scored) is type(batch)
    for name, values in detector.outputs(frame).items():
        np.testing.assert_array_equal(np.asarray(scored[name]), values)
        assert np.asarray(scored[name]).dtype == values.dtype


def test_rows_in_a_single_column(nameless, rows):
    detector, file = nameless
    expected = detector.energy(rows)
    for batch in ({"data": rows}, dict(zip("abc", rows.T, strict=True))):
        np.testing.assert_array_equal(BatchScorer(file, "energy")(batch)["energy"], expected)
    beside = pd.DataFrame({"id": range(len(rows)), "row": list(rows)})
    scored = BatchScorer(file, "energy", column="row", prefix="model_")(beside)
    np.testing.assert_array_equal(scored["model_energy"], expected)
    with pytest.raises(InvalidInputError, match=r"got rows in 'row' .*give .* column='row'"):
        BatchScorer(file)(beside)


def through_parquet(images):
    stream = io.BytesIO()
    parquet.write_table(pa.table({"image": images.tolist()}), stream)
    return pd.read_parquet(stream)


def turned_tensors(images):
    """A column whose type says that rows and columns lie the other way round in memory."""
    there = np.ascontiguousarray(images.swapaxes(1, 2))
    kind = pa.fixed_shape_tensor(pa.uint8(), there.shape[1:], permutation=[1, 0])
    flat = pa.FixedSizeListArray.from_arrays(there.ravel(), there[0].size)
    return pa.table({"image": pa.ExtensionArray.from_storage(kind, flat)})


@pytest.mark.parametrize(
    "batch",
    [
        lambda images: {"image": images, "truth": np.zeros(60)},
        lambda images: pd.DataFrame({"image": list(images)}),
        lambda images: pa.table({"image": images.tolist()}),
        lambda images: pa.table({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(images)}),
        turned_tensors,
        lambda images: pa.table({"image": images.reshape(60, -1).tolist()}),
        through_parquet,
    ],
    ids=["dictionary", "pandas", "nested lists", "tensors", "turned", "flat", "parquet"],
)
def test_images_in_a_column(tmp_path, batch):
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 9), dtype=np.uint8)
    detector = EBGANDetector(max_epochs=1, random_state=0).fit(images)
    save(detector, tmp_path / "model.ebgan")
    scorer = BatchScorer(tmp_path / "model.ebgan", "score", column="image")
    scored = scorer(batch(images))["score"]
    np.testing.assert_array_equal(scored, detector.score_samples(images))
    other = pa.FixedShapeTensorArray.from_numpy_ndarray(images.reshape(60, 9, 8))
    with pytest.raises(InvalidInputError, match=r"rows of shape \(9, 8\)"):
        scorer(pa.table({"image": other}))


def test_an_empty_batch_has_the_columns_of_any(named, frame):
    _, file = named
    for batch in (frame.iloc[:0], pa.Table.from_pandas(frame.iloc[:0], preserve_index=False)):
        empty, full = (BatchScorer(file)(part) for part in (batch, frame))
        assert len(empty) == 0
        assert [np.asarray(empty[name]).dtype for name in full] == list(full.dtypes)


def test_the_file_is_read_by_the_process_that_scores(named, frame, tmp_path):
    detector, file = named
    scorer = BatchScorer(tmp_path / "later.ebgan", "energy")
    with pytest.raises(FileNotFoundError):
        scorer(frame)
    (tmp_path / "later.ebgan").write_bytes(file.read_bytes())
    np.testing.assert_array_equal(scorer(frame)["energy"], detector.energy(frame))
    sent = pickle.dumps(scorer)
    assert len(sent) < 1000
    np.testing.assert_array_equal(
        pickle.loads(sent)(frame)["energy"],  # noqa: S301
        detector.energy(frame),
    )


def test_bad_batches_are_refused(named, nameless, frame):
    _, file = named
    scorer = BatchScorer(file, "label")
    with pytest.raises(InvalidInputError, match="must have the column 'width', got height, depth"):
        scorer(frame.drop(columns="width"))
    with pytest.raises(InvalidInputError, match=r"free, got a column 'label'; .* a prefix"):
        scorer(frame.assign(label=0))
    assert "my_label" in BatchScorer(file, "label", prefix="my_")(frame.assign(label=0))
    with pytest.raises(InvalidInputError, match="NaN or infinity"):
        scorer(frame.assign(depth=np.nan))
    with pytest.raises(InvalidInputError, match=r"an Arrow table, got ndarray"):
        scorer(frame.to_numpy())
    for columns, message in [
        ({}, "columns, got none"),
        ({"a": 1.0}, "column 'a' must hold numbers, or rows of one shape, got float"),
        ({"a": ["x", "y"]}, "column 'a' must hold numbers"),
        ({"a": pd.array([True, None])}, "column 'a' must hold numbers"),
        ({"a": np.array(["2026-11-30"], "datetime64[s]")}, "column 'a' must hold numbers"),
        ({"a": [[1, 2], [3]]}, "column 'a' must hold numbers"),
        ({"a": np.array(["1", "2"], object)}, "column 'a' must hold numbers"),
        ({"a": [10**400, 1]}, "column 'a' must hold numbers"),
        ({"a": torch.ones(2, requires_grad=True)}, "column 'a' must hold numbers"),
        ({"a": [1, 2], "b": [1]}, r"columns of one length, got \[1, 2\]"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            BatchScorer(nameless[1])(columns)
    with pytest.raises(InvalidParameterError, match=r"names must be among .*, got 'lable'"):
        BatchScorer(file, "lable")


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # The two workers hold one each; with no more than these, nothing could bring them data.
        ray.init(
            num_cpus=4,
            object_store_memory=2**27,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
        )
        yield
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray's own
def test_workers_of_ray_score_what_the_detector_scores(cluster, named, frame):
    detector, file = named
    data = ray.data.from_pandas(frame.assign(id=range(len(frame))))
    scored = data.repartition(4).map_batches(
        BatchScorer, fn_constructor_args=(str(file), "energy", "p_value"), concurrency=2
    )
    found = scored.to_pandas().sort_values("id")
    np.testing.assert_array_equal(found["energy"], detector.energy(frame))
    np.testing.assert_array_equal(found["p_value"], detector.p_values(frame))
