"""Files on the workers of a Dask cluster: the same bytes as without; what is not there is one line, and soon."""

import socket
import subprocess
import sys
import time

import joblib
import pytest
from conftest import run_script
from tiny_release import write_tiny_release

from data.workers import parallel
from storage.files import InputError

distributed = pytest.importorskip("distributed", reason="the optional package distributed is not installed")
QUIET = {"host": "127.0.0.1", "dashboard_address": ":0", "silence_logs": 50}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two workers on the loopback interface, started away from the project: they have to find it."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with distributed.LocalCluster(n_workers=2, threads_per_worker=2, **QUIET) as cluster:
        monkeypatch.undo()
        yield cluster.scheduler_address.removeprefix("tcp://")


def test_a_cluster_gives_the_same_bytes(cluster, tmp_path):
    release = write_tiny_release(tmp_path)
    for name, options in (("here", ("--jobs", "1")), ("there", ("--scheduler", cluster))):
        command = ("-m", "data.prepare", "iemocap", "--release", release, "--out", tmp_path / f"{name}.h5", *options)
        done = run_script(*command)
        assert done.returncode == 0, done.stderr
        assert "10/10" in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "here.h5").read_bytes() == (tmp_path / "there.h5").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [release.name, "here.h5", "there.h5"]


def test_tasks_that_start_programs(cluster):
    """As whole training runs: on the cluster, and on threads of this machine."""
    command = [sys.executable, "-c", "import sys; print(sys.argv[1])"]
    for where in ({"scheduler": cluster}, {"jobs": 2, "threads": True}):
        with parallel(**where) as run:
            tasks = [joblib.delayed(subprocess.check_output)([*command, str(number)]) for number in range(3)]
            assert sorted(run(tasks)) == [b"0\n", b"1\n", b"2\n"]


def test_a_cluster_that_is_not_there_is_one_line(monkeypatch):
    with socket.socket() as silent:  # takes the connection, and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for address in (f"127.0.0.1:{silent.getsockname()[1]}", "127.0.0.1:9", "nonsense"):
            before = time.monotonic()
            message = f"^--scheduler {address}: no Dask scheduler answers there; start one with 'dask scheduler'$"
            with pytest.raises(InputError, match=message), parallel(scheduler=address):
                pass
            assert time.monotonic() - before < 10
            monkeypatch.setattr("data.workers._PATIENCE_S", 1)  # the first is the slowest
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match="needs the package distributed: pip install"), parallel(scheduler=address):
        pass


def test_a_cluster_without_workers_is_one_line(monkeypatch):
    monkeypatch.setattr("data.workers._PATIENCE_S", 1)
    with (
        distributed.LocalCluster(n_workers=0, **QUIET) as empty,
        pytest.raises(InputError, match="it has no worker; start some with 'dask worker'"),
        parallel(scheduler=empty.scheduler_address),
    ):
        pass
