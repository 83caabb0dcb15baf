"""Refined class-activation maps, against a naive computation."""

import torch

from stpp.models.activation import RefinedActivation


def refined() -> RefinedActivation:
    torch.manual_seed(0)
    return RefinedActivation((4, 6), 3, width=5)


def test_the_maps_are_carried_by_the_attention() -> None:
    module, fine, last = refined(), torch.rand(2, 4, 6, 4), torch.rand(2, 6, 3, 2)
    present = torch.tensor([[True, False], [True, True]])
    seen: list[torch.Tensor] = []
    module.score.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    logits, of_image = module([fine, last], torch.ones(2, 12, 8, dtype=torch.bool), present)
    assert logits.shape == (2, 3, 3, 2)
    weights, bias = module.of_images.weight[:, :, 0, 0], module.of_images.bias
    assert bias is not None
    assert torch.allclose(of_image, last.mean(dim=(2, 3)) @ weights.T + bias, atol=1e-6)
    coarse = torch.nn.functional.interpolate(fine, size=(3, 2), mode="bilinear", align_corners=True)
    both = torch.cat([coarse, last], dim=1).flatten(2)
    for image in range(2):
        active = (weights @ last[image].flatten(1)).clamp(min=0) * present[image][:, None]
        active = active / active.amax(dim=1, keepdim=True).clamp(min=1e-9)
        keys, queries = (layer.weight[:, :, 0, 0] @ both[image] for layer in (module.keys, module.queries))
        attention = (queries.T @ keys / 5**0.5).softmax(dim=1)
        carried = active @ attention.T + active
        assert torch.allclose(seen[0][image, 1:].flatten(1), carried, atol=1e-5)
        assert torch.allclose(seen[0][image, 0].flatten(), 2 - carried.amax(dim=0), atol=1e-5)
        assert bool((active[1] == 0).all()) == (image == 0)


def test_only_the_classifier_of_images_trains_the_encoder() -> None:
    module = refined()
    fine, last = torch.rand(2, 4, 6, 4, requires_grad=True), torch.rand(2, 6, 3, 2, requires_grad=True)
    valid, present = torch.ones(2, 12, 8, dtype=torch.bool), torch.ones(2, 2, dtype=torch.bool)
    logits, of_image = module([fine, last], valid, present)
    (logits * torch.rand_like(logits)).sum().backward(retain_graph=True)
    assert fine.grad is None and last.grad is None and module.of_images.weight.grad is None
    assert module.keys.weight.grad is not None and bool(module.keys.weight.grad.any())
    of_image.sum().backward()
    assert last.grad is not None and fine.grad is None


def test_what_lies_outside_of_the_image_is_not_attended_to() -> None:
    module, fine, last = refined().eval(), torch.rand(1, 4, 6, 4), torch.rand(1, 6, 3, 2)
    valid = torch.ones(1, 12, 8, dtype=torch.bool)
    valid[:, :, 4:] = False
    present = torch.ones(1, 2, dtype=torch.bool)
    found = module([fine, last], valid, present)[0]
    other_fine, other_last = fine.clone(), last.clone()
    # Places whose keys change, but whose activation, which is divided by its maximum, stays below that.
    other_fine[..., 2:] = 0
    assert torch.allclose(module([other_fine, other_last], valid, present)[0][..., 0], found[..., 0], atol=1e-5)
    nowhere = module([fine, last], torch.zeros_like(valid), present)[0]
    assert bool(nowhere.isfinite().all())
