import shlex

import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner

from ebgan_detect import EBGANDetector
from ebgan_detect.cli import _export
from ebgan_detect.cli._program import app
from ebgan_detect.export._triton_config import CONFIG, read_config
from ebgan_detect.persistence import load, save


def run(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(app, list(map(str, arguments)))


def failure(result, status=1):
    """What a failed run says, frames and line breaks taken away."""
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    return " ".join(result.stderr.replace("│", " ").split())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Model file of a small table detector."""
    path = tmp_path_factory.mktemp("model") / "m.ebgan"
    rows = np.random.default_rng(0).normal(size=(60, 3))
    detector = EBGANDetector(max_epochs=1, margin=0.1, hidden_sizes=(8,), random_state=0)
    save(detector.fit(rows), path)
    return path


@pytest.fixture
def calls(monkeypatch):
    """Arguments of the exports that a command asks for, without the work."""
    made = []
    for name in ("export_onnx", "export_triton"):
        monkeypatch.setattr(
            _export,
            name,
            lambda _, target, *, name=name, **options: made.append((name, target, options)),
        )
    return made


def test_onnx_file_scores_like_the_model(model, tmp_path):
    result = run("export", model, "--onnx", tmp_path / "e.onnx", "--energy-map")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'e.onnx'}\n"
    rows = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "e.onnx")
    score, parts = session.run(["score", "energy_map"], {"input": rows})
    np.testing.assert_allclose(score, load(model).score_samples(rows), rtol=1e-5)
    assert parts.shape == (5, 3)


def test_triton_repository_and_the_commands_that_serve_it(model, tmp_path):
    place = tmp_path / "two words"
    arguments = ["--name", "pumps", "--max-batch-size", 8, "--device", "auto", "--threads", 2]
    result = run("export", model, "--triton", place, *arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{place / 'pumps' / '1'}\n"
    assert "ebgan-detect serve-config" in result.stderr
    config = read_config(place / "pumps" / CONFIG)
    assert config.max_batch_size == 8
    assert config.parameters["intra_op_thread_count"].string_value == "2"

    again = failure(run("export", model, "--triton", place, "--name", "pumps", "--version", 1))
    assert "version 1 of model 'pumps' exists" in again

    shown = run("serve-config", place, "--http-port", 9000, "--mode", "explicit")
    assert shown.exit_code == 0
    first, second = map(shlex.split, shown.stdout.splitlines()[1::2])
    assert first[:2] == ["tritonserver", f"--model-repository={place}"]
    assert {"--http-port=9000", "--model-control-mode=explicit", "--load-model=*"} <= {*first}
    assert second[:3] == ["docker", "run", "--rm"]
    assert {"--gpus=all", "--publish=9000:8000", f"--volume={place}:/models:ro"} <= {*second}
    assert "--http-port=9000" not in second  # inside, the ports are Triton's own

    python = run("serve-config", place, "--backend", "python").stdout.splitlines()
    assert "docker" not in "".join(python)
    assert "--model-config-name=python" in shlex.split(python[1])


def test_options_reach_the_export(model, tmp_path, calls):
    options = ["--version", 3, "--instances", 2, "--versions-served", "all", "--tensorrt", "fp16"]
    flags = ["--cuda-graphs", "--overwrite", "--reconstruction", "--input-dtype", "float32", "-q"]
    assert run("export", model, "--triton", tmp_path, *options, *flags).exit_code == 0
    assert run("export", model, "--triton", tmp_path, "--versions-served", 2).exit_code == 0
    assert run("export", model, "--onnx", tmp_path / "m.onnx").exit_code == 0
    plain = {"reconstruction": False, "energy_map": False, "input_dtype": "auto"}
    assert calls == [
        (
            "export_triton",
            tmp_path,
            {
                "version": 3,
                "instances": 2,
                "versions_served": "all",
                "tensorrt": "fp16",
                "cuda_graphs": True,
                "overwrite": True,
                "reconstruction": True,
                "energy_map": False,
                "input_dtype": "float32",
            },
        ),
        ("export_triton", tmp_path, {**plain, "versions_served": 2}),
        ("export_onnx", tmp_path / "m.onnx", plain),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give one of --onnx and --triton"),
        (["--onnx", "a.onnx", "--triton", "models"], "give one of --onnx and --triton, got both"),
        (
            ["--onnx", "a.onnx", "--threads", "2"],
            "options under 'With --triton' need --triton",
        ),
        (["--triton", "models", "--versions-served", "few"], "all or a whole number, got 'few'"),
        (["--triton", "models", "--device", "tpu"], "tpu"),
    ],
)
def test_wrong_command_lines(model, arguments, words, calls):
    assert words in failure(run("export", model, *arguments), status=2)
    assert not calls


def test_missing_files_and_folders(model, tmp_path):
    missing = tmp_path / "missing"
    no_file = "No such file or directory"
    assert failure(run("export", missing, "--onnx", tmp_path / "e.onnx")).endswith(no_file)
    answer = failure(run("export", model, "--onnx", missing / "e.onnx"))
    assert answer == f"error: {missing / 'e.onnx'}: {no_file}"
    assert failure(run("serve-config", missing)) == f"error: {missing}: {no_file}"
    empty = failure(run("serve-config", tmp_path))
    assert "must be a model repository, got a folder without models; write one" in empty


def test_model_is_not_overwritten_by_its_own_export(model, tmp_path, calls):
    content, linked = model.read_bytes(), tmp_path / "linked"
    linked.symlink_to(model)
    for target in (model, linked):
        answer = failure(run("export", model, "--onnx", target), status=2)
        assert "--onnx" in answer  # the path may be broken over two lines
        assert "is read too, and would be overwritten" in answer
    assert model.read_bytes() == content
    assert not calls


def test_settings_out_of_range_are_the_users_fault(model, tmp_path):
    answer = failure(run("export", model, "--triton", tmp_path / "r", "--max-batch-size", 0))
    assert "max_batch_size must be None or an int from 1 to 2147483647, got 0" in answer
    assert not (tmp_path / "r").exists()


def test_help_lists_the_commands():
    for command in ("export", "serve-config"):
        assert command in run("--help").stdout
        assert f"ebgan-detect {command} " in run(command, "--help").stdout
