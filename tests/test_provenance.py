import os
import platform
import subprocess
import sys

import torch

from landscape import provenance
from landscape.provenance import describe_environment, processor_name


def git(*arguments):
    names = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b.c"}
    names |= {key.replace("AUTHOR", "COMMITTER"): value for key, value in names.items()}
    subprocess.run(["git", *arguments], check=True, capture_output=True, env=os.environ | names)


def test_the_environment_names_versions_device_threads_and_command():
    found = describe_environment()
    assert found["versions"]["torch"] == torch.__version__
    assert found["device"] == "cpu"
    assert found["threads"] == torch.get_num_threads()
    assert found["command"] == sys.argv
    assert found["time"].endswith("Z")


def test_the_commit_of_the_current_folder_is_named_and_changes_make_it_dirty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert describe_environment()["git"] is None
    git("init")
    (tmp_path / "a.txt").write_text("one")
    git("add", "a.txt")
    git("commit", "-m", "first")
    clean = describe_environment()["git"]
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False
    (tmp_path / "untracked.txt").write_text("not part of the code")
    assert describe_environment()["git"] == clean
    (tmp_path / "a.txt").write_text("two")
    assert describe_environment()["git"] == {"commit": clean["commit"], "dirty": True}


def test_the_processor_is_told_by_its_model_where_there_is_one(monkeypatch, tmp_path):
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(provenance, "CPU_INFO", info)
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert processor_name() == platform.machine()
    info.write_text("processor\t: 0\nmodel name\t: Some CPU: 3 GHz\nmodel name\t: another\n")
    assert processor_name() == "Some CPU: 3 GHz"
    assert describe_environment()["device_name"] == "Some CPU: 3 GHz"
