"""Every file of the pack is found by its name, verified and loaded."""

from importlib.resources import files

from slidefusion import weights


def cards():
    return {card.name: card for card in weights.find() if card.pack == "large"}


def test_every_file_is_found():
    there = {
        entry.name.removesuffix(".safetensors")
        for entry in files("slidefusion_weights.files").iterdir()
        if entry.name.endswith(".safetensors")
    }
    assert set(cards()) == there


def test_every_card_says_where_its_weights_come_from():
    for name, card in cards().items():
        needed = {"trained_on", "command", "commit", "metrics", "license"}
        assert needed <= card.facts.keys(), (name, needed - card.facts.keys())


def test_every_file_loads():
    for name, card in cards().items():
        loaded = weights.load(f"large:{name}", fuser=card.fuser, planes=card.planes)
        assert not loaded.network.training
        if card.blur_model is not None:
            blur_model = weights.blur_model_of(card)
            weights.load(blur_model.reference, fuser="blur")
