import re
import sys

import pytest

from ebgan_detect import ServerError
from examples import deploy

pytestmark = pytest.mark.triton


def test_example_deploys_to_a_running_server(
    triton_server, triton_backend, tmp_path, monkeypatch, capsys
):
    def run(url, wait):
        options = ["--url", url, "--repository", tmp_path, "--epochs", 1, "--wait", wait]
        monkeypatch.setattr(sys, "argv", ["deploy", *map(str, options)])
        deploy.main()

    with pytest.raises(ServerError, match=r"127\.0\.0\.1:1\b"):
        run("127.0.0.1:1", 0)  # nobody listens on the port of TCPMUX
    shown = capsys.readouterr().out
    assert f"wrote {tmp_path / 'digits' / '1'}" in shown
    assert f"ebgan-detect serve-config {tmp_path}" in shown

    server = triton_server(tmp_path, backend=triton_backend, mode="poll")
    run(server.grpc_url, 60)
    server.kill()
    shown = capsys.readouterr().out
    assert f"wrote {tmp_path / 'digits' / '2'}" in shown
    assert float(re.search(r"difference of energies: (\S+)", shown)[1]) < 1e-5
    assert "same labels: 100.00%" in shown
    assert re.search(r"outliers on the server, nines: \d", shown)
