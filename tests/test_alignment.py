from dataclasses import replace

import numpy as np
import pytest
import torch
from dense import conv_batchnorm, dense_hessian, mlp, quadratic
from torch.nn import functional

from landscape import Objective
from landscape.alignment import measure_alignment
from landscape.perturbations import aace, asam, sam, usam, vasso


def test_gradient_of_a_quadratic_along_its_eigenvectors():
    objective = quadratic(np.diag([4.0, 2.0, 1.0, -1.0]))
    at = objective.at(torch.tensor([0.75, 0.5, 0.0, 0.0]))  # its gradient is (3, 1, 0, 0)
    found = measure_alignment(at, np.eye(4)[:2], [sam(0.1), usam(0.3)])
    expected = np.array([3, 1]) / np.sqrt(10)
    np.testing.assert_allclose(found.cosines, np.tile(expected, (3, 1)), rtol=1e-12)
    np.testing.assert_allclose(found.rayleigh, (9 * 4 + 1 * 2) / 10, rtol=1e-12)
    np.testing.assert_allclose(found.norms, [np.sqrt(10), 0.1, 0.3 * np.sqrt(10)], rtol=1e-9)
    assert found.names == ("gradient", "sam", "usam")
    assert found.null == pytest.approx(np.sqrt(2 / (np.pi * 4)))
    assert found.products == 1


def test_aace_points_where_its_own_loss_falls():
    model, loss_fn, data = mlp()
    dense = dense_hessian(model, loss_fn, data)
    vectors = np.linalg.eigh(dense)[1].T[::-1][:3].copy()
    objective = Objective(model, loss_fn, data, batch_size=7)
    found = measure_alignment(objective, vectors, [aace(0.2), aace(0.1, threshold=0.3)])
    assert found.names == ("gradient", "AACE ρ=0.2", "AACE ρ=0.1 th=0.3")
    for row, threshold, rho in ((1, 0.0, 0.2), (2, 0.3, 0.1)):
        parameters = list(model.parameters())
        logits = model(data[0])
        p = logits.softmax(1).detach()
        one_hot = functional.one_hot(data[1], 3)
        true = (p * one_hot).sum(1, keepdim=True)
        wrong = p * (1 - one_hot) / (1 - true)
        target = true.clamp(max=threshold) * one_hot + wrong
        loss = -(target * logits.log_softmax(1)).sum(1).mean()
        slope = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]).numpy()
        length = np.linalg.norm(slope)
        np.testing.assert_allclose(found.norms[row], rho * length, rtol=1e-10)
        unit = slope / length
        np.testing.assert_allclose(found.cosines[row], np.abs(vectors @ unit), rtol=1e-8)
        np.testing.assert_allclose(found.rayleigh[row], unit @ dense @ unit, rtol=1e-8)
    assert found.products == 3


def test_the_policy_of_the_objective_decides():
    model, loss_fn, data = conv_batchnorm()
    vectors = np.eye(Objective(model, loss_fn, data).theta.numel())[:2]
    frozen, batch = (
        measure_alignment(Objective(model, loss_fn, data, bn=bn), vectors, [aace()])
        for bn in ("frozen", "batch")
    )
    assert (np.abs(frozen.cosines - batch.cosines) > 1e-4).all()


def test_a_direction_of_no_length_has_no_cosine():
    found = measure_alignment(quadratic(np.eye(3)), np.eye(3)[:1], [sam(0.1)])
    assert np.isnan(found.cosines).all()
    assert np.isnan(found.rayleigh).all()
    np.testing.assert_array_equal(found.norms, 0)


@pytest.mark.parametrize("shape", [(2, 4), (3,)])
def test_eigenvectors_of_another_size_are_refused(shape):
    with pytest.raises(ValueError, match=r"eigenvectors must be \[k, 3\], got"):
        measure_alignment(quadratic(np.eye(3)), np.ones(shape))


def test_asam_and_several_ascent_steps_leave_the_gradient():
    objective = quadratic(np.diag([4.0, 2.0, 1.0, -1.0]))
    at = objective.at(torch.tensor([0.75, 0.5, 0.0, 0.0]))  # its gradient is (3, 1, 0, 0)
    two = replace(usam(0.4), ascent_steps=2)
    found = measure_alignment(at, np.eye(4)[:2], [two])
    move = 0.2 * np.array([3, 1]) + 0.2 * np.array([4 * (0.75 + 0.6), 2 * (0.5 + 0.2)])
    length = np.linalg.norm(move)
    np.testing.assert_allclose(found.cosines[1], move / length, rtol=1e-12)
    np.testing.assert_allclose(found.norms[1], length, rtol=1e-12)
    expected = (4 * move[0] ** 2 + 2 * move[1] ** 2) / length**2
    np.testing.assert_allclose(found.rayleigh[1], expected, rtol=1e-12)
    assert found.products == 2
    model, loss_fn, data = mlp()
    plain = Objective(model, loss_fn, data)
    scaled = measure_alignment(plain, plain.theta[None].numpy(), [asam(0.5, eta=0.1)])
    names = [name for name, _ in model.named_parameters()]
    gradient = plain.gradient().split([p.numel() for p in model.parameters()])
    metric = [
        p.detach().abs().flatten() + 0.1 if "weight" in name else torch.ones(p.numel())
        for name, p in model.named_parameters()
    ]
    inner = torch.cat([t * g for t, g in zip(metric, gradient, strict=True)])
    move = 0.5 * torch.cat(metric) * inner / inner.norm()
    assert any("bias" in name for name in names)
    assert scaled.norms[1] == pytest.approx(move.norm().item(), rel=1e-9)
    assert scaled.products == 2
    with pytest.raises(ValueError, match="earlier updates"):
        measure_alignment(at, np.eye(4)[:2], [vasso()])
