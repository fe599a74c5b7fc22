"""EfficientNet-Lite0 of a package names what stands on photographs."""

import pytest
import torch
from torch.nn import functional

from stackwise import data
from stackwise.data.packed_networks import check_sha256
from stackwise.errors import DataError
from stackwise.layers.efficientnet_lite import EfficientNetLite, SameConv
from stackwise.models import check_named, open_model
from stackwise.stack import Stack

PACKED = data.lacking("efficientnet-lite0", "network") is None
PICTURES = data.lacking("imagenet-20", "images") is None
needs_weights = pytest.mark.skipif(not PACKED, reason="its package is not installed")


@pytest.fixture(scope="module")
def network():
    return open_model("efficientnet-lite0")


@needs_weights
@pytest.mark.skipif(not PICTURES, reason="foolbox, which carries the pictures, is not here")
def test_it_names_what_stands_on_photographs_of_imagenet(network):
    found, labels = data.images("imagenet-20")
    pictures, classes = torch.from_numpy(found).movedim(-1, 1) / 255, torch.from_numpy(labels)
    with torch.no_grad():
        logits = network(network.normalised(pictures))
    best = logits.topk(5).indices
    assert logits.shape == (20, 1000)
    assert int((best[:, 0] == classes).sum()) >= 18
    assert int((best == classes[:, None]).any(1).sum()) >= 19
    assert logits.softmax(1)[torch.arange(20), classes].mean() > 0.68


@needs_weights
def test_its_blocks_and_its_maps_for_detection_are_found(network):
    stack = Stack.of(network)
    assert (len(stack), stack.name) == (16, "blocks")
    assert not network.training
    with torch.no_grad():
        maps = network.forward_features(torch.zeros(1, 3, 97, 64))
    sides = [(-(-97 // stride), -(-64 // stride)) for stride in network.strides]
    assert [tuple(one.shape[1:]) for one in maps] == [
        (width, *side) for width, side in zip(network.widths, sides, strict=True)
    ]


@needs_weights
def test_a_path_that_leaves_out_a_residual_block_runs(network):
    pixels = torch.rand(1, 3, 64, 64)
    stack = Stack.of(network)
    with torch.no_grad(), stack.path([i for i in range(16) if i != 7]):
        shorter = network(pixels)
    with torch.no_grad():
        assert shorter.shape == (1, 1000) and not torch.equal(shorter, network(pixels))


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_padding_puts_one_zero_more_at_the_right_and_below(side, kernel, stride):
    torch.manual_seed(0)
    layer, x = SameConv(1, 1, kernel, stride), torch.rand(1, 1, side, side)
    around = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    before, after = around // 2, around - around // 2
    wanted = functional.conv2d(
        functional.pad(x, (before, after, before, after)), layer.weight, layer.bias, stride
    )
    assert torch.equal(layer(x), wanted)
    assert wanted.shape[-1] == -(-side // stride)


def test_a_network_of_other_classes_is_made_of_its_arguments():
    network = EfficientNetLite(n_outputs=7)
    again = type(network)(**network.arguments)
    again.load_state_dict(network.state_dict())
    assert again.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


def test_weights_that_were_changed_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"others")
    with pytest.raises(DataError, match="is not the published file of weights"):
        check_sha256(path, "0" * 64)


def test_the_name_is_known_where_a_model_is_asked_for():
    check_named("efficientnet-lite0")
