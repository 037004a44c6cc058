"""Files of weights fit a model whole or not at all, whatever is wrapped around them."""

import argparse
import copy
import json

import pytest
import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file, save_file, save_model
from torch import nn

from landscape.runs import RunFileError
from landscape.states import load_state

ONE = torch.ones(1)


def net(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def store(state, path):
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


def without(state, key):
    return {name: value for name, value in state.items() if name != key}


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_state_comes_back_whole(tmp_path, name):
    other = net(1)
    other[1].running_mean.fill_(0.5)
    model = net(0)
    assert load_state(model, store(other.state_dict(), tmp_path / name)) == []
    assert same(model.state_dict(), other.state_dict())


def store_in_shards(state, folder):
    """Store as Hugging Face does; here one shard for each tensor or two."""
    save_torch_state_dict(state, str(folder), max_shard_size=24)
    (index,) = folder.glob("*.index.json")
    assert len([*folder.glob("model-0000?-of-0000?.safetensors")]) > 2
    return index


def test_shards_that_an_index_lists_are_one_state(tmp_path):
    other = net(1)
    index = store_in_shards(other.state_dict(), tmp_path)
    for path in (index, tmp_path):
        model = net(0)
        assert load_state(model, path) == []
        assert same(model.state_dict(), other.state_dict())


def first_shard(index):
    return sorted(index.parent.glob("model-*.safetensors"))[0]


def rewrite(file, change):
    save_file(change(load_file(file)), file)


def remap(index, change):
    held = json.loads(index.read_text())
    index.write_text(json.dumps(held | {"weight_map": change(held["weight_map"])}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda i: first_shard(i).unlink(), r"1 of its \d shards must lie .*: model-00001-of"),
        (lambda i: first_shard(i).write_bytes(b"x"), "model-00001-of.*: damaged or not a safe"),
        (
            lambda i: rewrite(first_shard(i), lambda s: dict(list(s.items())[1:]) or {"a": ONE}),
            r"model-00001-of-\d+.safetensors must hold [01]\.\w+, and does not",
        ),
        (
            lambda i: rewrite(first_shard(i), lambda s: s | {"1.running_var": ONE}),
            r"holds 1.running_var, which the index has in model-0000[2-9]-of",
        ),
        (
            lambda i: rewrite(first_shard(i), lambda s: s | {"2.weight": ONE}),
            "holds 2.weight, which the index does not know",
        ),
        (lambda i: i.write_text("{}"), "damaged or not an index of shards"),
        (lambda i: remap(i, lambda w: dict.fromkeys(w, "../a.safetensors")), "got ../a.safe"),
        (lambda i: remap(i, lambda w: dict.fromkeys(w, "a.bin")), "got a.bin; save the model"),
        (lambda i: remap(i, lambda w: {}), "beside the index, got none"),
    ],
    ids=[
        "missing",
        "damaged",
        "lacks",
        "twice",
        "unknown",
        "no map",
        "outside",
        "pickled",
        "empty",
    ],
)
def test_shards_that_do_not_fit_their_index_are_refused(tmp_path, spoil, message):
    index = store_in_shards(net(1).state_dict(), tmp_path)
    spoil(index)
    with pytest.raises(RunFileError, match=message):
        load_state(net(0), index)


def test_a_folder_holds_one_file_of_weights(tmp_path):
    other, model = net(1), net(0)
    with pytest.raises(RunFileError, match=r"must hold one of .*, got none"):
        load_state(model, tmp_path)
    store(other.state_dict(), tmp_path / "model.safetensors")
    load_state(model, tmp_path)
    assert same(model.state_dict(), other.state_dict())
    (tmp_path / "b.safetensors.index.json").touch()
    with pytest.raises(
        RunFileError, match=r"got b.safetensors.index.json, model.safetensors; name"
    ):
        load_state(model, tmp_path)


@pytest.mark.parametrize(
    ("wrap", "told"),
    [
        (lambda s: {"epoch": 3, "model": s}, ["taken from 'model' in it"]),
        (lambda s: {"state_dict": s, "best": 0.9}, ["taken from 'state_dict' in it"]),
        (lambda s: {"net": s, "acc": 91.2}, ["taken from 'net' in it"]),
        (lambda s: {"model": s, "ema": net(7).state_dict()}, ["taken from 'model' in it"]),
        (lambda s: prefixed(s, "net."), ['"net." taken off the names']),
        (lambda s: prefixed(s, "module."), ['"module." taken off the names']),
        (lambda s: prefixed(s, "module._orig_mod."), ['"module._orig_mod." taken off the names']),
        (
            lambda s: {"state_dict": prefixed(s, "model."), "global_step": 9},
            ["taken from 'state_dict' in it", '"model." taken off the names'],
        ),
    ],
)
def test_what_is_around_a_state_is_taken_off_and_said(tmp_path, wrap, told):
    other, model = net(1), net(0)
    assert load_state(model, store(wrap(other.state_dict()), tmp_path / "w.pt")) == told
    assert same(model.state_dict(), other.state_dict())


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # torch's own
def test_names_that_torch_itself_makes_are_known(tmp_path):
    other = net(1)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
    other(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    held = {"model": nn.DataParallel(torch.compile(other)).state_dict()}
    torch.save(held | {"optimizer": optimizer.state_dict(), "epoch": 1}, tmp_path / "w.pt")
    model = net(0)
    load_state(model, tmp_path / "w.pt")
    assert same(model.state_dict(), other.state_dict())


def test_names_of_the_model_that_look_like_a_wrapping_stay(tmp_path):
    model, other = nn.Module(), nn.Module()
    model.model, other.model = net(0), net(1)
    store(prefixed(other.state_dict(), "module."), tmp_path / "w.pt")
    assert load_state(model, tmp_path / "w.pt") == ['"module." taken off the names']
    assert same(model.state_dict(), other.state_dict())


def test_tied_tensors_may_be_stored_once(tmp_path):
    def tied(seed):
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        nn.init.normal_(model[0].weight, generator=torch.Generator().manual_seed(seed))
        model[1].weight = model[0].weight
        return model

    other, model = tied(1), tied(0)
    save_model(other, str(tmp_path / "w.safetensors"))
    load_state(model, tmp_path / "w.safetensors")
    assert same(model.state_dict(), other.state_dict())
    assert model[1].weight is model[0].weight


def test_counts_of_batches_that_old_files_lack_are_the_models_own(tmp_path):
    other, model = net(1), net(0)
    store(without(other.state_dict(), "1.num_batches_tracked"), tmp_path / "w.pt")
    assert load_state(model, tmp_path / "w.pt") == ["1 counts of batches are the model's own"]
    assert same(model.state_dict(), other.state_dict())


def test_rounding_and_numbers_that_are_not_finite_are_said(tmp_path):
    other = net(1).double()
    other[0].weight.data[0, 0] = float("nan")
    model = net(0)
    told = load_state(model, store(other.state_dict(), tmp_path / "w.pt"))
    assert told == ["6 tensors rounded from float64 to float32", "not finite: 0.weight"]
    assert model[0].weight[0, 0].isnan()
    assert load_state(model, store(net(1).half().state_dict(), tmp_path / "h.pt")) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "1.running_var"), "Sequential, got missing: 1.running_var"),
        (lambda s: s | {"2.weight": torch.ones(1)}, "unexpected: 2.weight"),
        (lambda s: s | {"0.bias": torch.ones(5)}, r"misshaped: 0.bias \(5,\) instead of \(2,\)"),
        (
            lambda s: prefixed(without(s, "0.bias"), "module."),
            r"missing: 0.bias; make the model",
        ),
        (
            lambda s: {f"net.{'a' if '0' in n else 'b'}.{n}": t for n, t in s.items()},
            r"missing: 0.weight, .* and 2 more; unexpected: net.a.0.bias",
        ),
        (
            lambda s: prefixed(s, "model.") | {"loss.weight": torch.ones(2)},
            r"unexpected: loss.weight, model.0.bias, .* and 4 more",
        ),
    ],
)
def test_state_that_does_not_fit_changes_nothing_and_says_where(tmp_path, change, message):
    model = net()
    before = copy.deepcopy(model.state_dict())
    store(change(net(1).state_dict()), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=message):
        load_state(model, tmp_path / "w.safetensors")
    assert same(model.state_dict(), before)


def test_files_without_one_state_dict_are_refused(tmp_path):
    state = net().state_dict()
    for held, message in (
        ({"a": state, "b": state}, "got a dict with.*'a', 'b'|with state dicts 'a', 'b'"),
        ({"epoch": 3}, "got a dict; save"),
        (torch.ones(3), "got a Tensor; save"),
        ({}, "got a dict; save"),
    ):
        torch.save(held, tmp_path / "w.pt")
        with pytest.raises(RunFileError, match=message):
            load_state(net(), tmp_path / "w.pt")


def test_pickled_models_and_garbage_are_refused_without_running_them(tmp_path):
    torch.save(net(), tmp_path / "model.pt")
    torch.save({"model": net().state_dict(), "args": argparse.Namespace(lr=1)}, tmp_path / "a.pt")
    (tmp_path / "garbage.pt").write_bytes(b"not weights at all")
    (tmp_path / "garbage.safetensors").write_bytes(b"not weights at all")
    (tmp_path / "empty.pt").write_bytes(b"")
    for name in ("model.pt", "garbage.pt", "empty.pt"):
        with pytest.raises(RunFileError, match=f"{name}: not weights that can be read"):
            load_state(net(), tmp_path / name)
    with pytest.raises(RunFileError, match=r"it needs argparse\.Namespace"):
        load_state(net(), tmp_path / "a.pt")
    with pytest.raises(RunFileError, match="damaged or not a safetensors file"):
        load_state(net(), tmp_path / "garbage.safetensors")
    with pytest.raises(RunFileError, match=r"missing.pt: no such file"):
        load_state(net(), tmp_path / "missing.pt")
