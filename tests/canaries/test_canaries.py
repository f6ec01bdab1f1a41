"""T17: six secrets, fourteen spellings, more than fifty scenarios, and nowhere a trace."""

from __future__ import annotations

import http.client
import logging
import secrets
import warnings
from pathlib import Path

import pytest

from finch_middleware.secret import Secret
from tests.canaries.harvest import told_by, told_by_object
from tests.canaries.scenarios import ALL
from tests.canaries.scene import Scene
from tests.canaries.spellings import hits, spellings
from tests.site import Answer

_LEAST_SCENARIOS = 50


@pytest.mark.parametrize("name", ALL)
def test_t17_no_secret_is_left_anywhere(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Scene(tmp_path) as scene, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        ALL[name](scene)
        printed = "".join(capfd.readouterr()).encode() + repr([str(w) for w in warned]).encode()
        leaks = scene.leaks() + [("printed", *hit) for hit in hits(printed, scene.secrets())]

    assert leaks == []


def test_t17_there_are_more_than_fifty_scenarios() -> None:
    assert len(ALL) > _LEAST_SCENARIOS


def test_t17_a_whole_flow_has_all_six_secrets_to_look_for(tmp_path: Path) -> None:
    with Scene(tmp_path) as scene:
        scene.returned("acme")
        known = scene.secrets()

    named = [name.rstrip(" 0123456789") for name in known]
    assert set(named) == {"client secret", "key", "code", "token", "cookie or state"}
    # The ticket, its state, and the ticket that was re-issued as spent.
    assert named.count("cookie or state") == 3


SECRET = "s3cr3t/+Token-of_canary 42"


@pytest.mark.parametrize("place", ["log", "errors", "files", "objects", "answers"])
def test_t17_a_planted_secret_is_found_in_every_spelling(place: str, tmp_path: Path) -> None:
    spelled = spellings(SECRET)
    with Scene(tmp_path) as scene:
        scene.codes.append(SECRET)
        for _, text in spelled:
            _plant(scene, place=place, text=text.decode())
        found = [leak for leak in scene.leaks() if leak[0] == place]

    assert found == [(place, "code 0", name) for name, _ in spelled]


def _plant(scene: Scene, *, place: str, text: str) -> None:
    match place:
        case "log":
            logging.getLogger("planted").debug("%s", text)
        case "errors":
            scene.errors.append(LookupError(text))
        case "files":
            left = scene.folder / f"left-{secrets.token_hex(4)}"
            left.write_text(f"before{text}after")
        case "objects":
            scene.things.append(_Careless(text))
        case _:
            scene.answers.append(Answer(200, http.client.HTTPMessage(), text.encode()))


def test_t17_a_local_of_a_frame_and_an_attribute_are_found() -> None:
    error = _raised()

    assert hits(told_by(error).encode(), {"planted": SECRET}) == []
    assert hits(told_by_object(_Careless(SECRET)), {"planted": SECRET})
    assert not hits(told_by_object(Secret(SECRET)), {"planted": SECRET})


class _Careless:
    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"<{self.text}>"


def _raised() -> BaseException:
    planted = SECRET
    try:
        raise LookupError(len(planted))
    except LookupError as error:
        return error
