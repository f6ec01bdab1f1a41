"""T17: six secrets, fourteen spellings, more than seventy scenarios, and no trace anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import finch_middleware
from finch_middleware.secret import Secret
from tests.canaries.harvest import VIEWS, told_by, told_by_object
from tests.canaries.planted import ERRORS, OBJECTS, PLACES, SECRET
from tests.canaries.public import BY_NATURE, PUBLIC
from tests.canaries.scenarios import ALL
from tests.canaries.scene import Scene
from tests.canaries.spellings import hits, spellings

_LEAST_SCENARIOS = 70
_PLANTED = {"planted": SECRET}


@pytest.fixture
def scene(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Scene]:
    with Scene(tmp_path, printed=lambda: "".join(capfd.readouterr())) as scene:
        yield scene


@pytest.mark.parametrize("name", ALL)
@pytest.mark.full
def test_t17_no_secret_is_left_anywhere(name: str, scene: Scene) -> None:
    ALL[name](scene)

    assert scene.leaks() == []


def test_t17_there_are_more_than_seventy_scenarios() -> None:
    assert len(ALL) > _LEAST_SCENARIOS


def test_t17_a_whole_flow_has_all_six_secrets_to_look_for(scene: Scene) -> None:
    scene.returned("acme")

    known = scene.secrets()

    named = [name.rstrip(" 0123456789") for name in known]
    assert set(named) == {"client secret", "key", "code", "token", "cookie or state"}
    # The ticket, its state, and the ticket that was re-issued as spent.
    assert named.count("cookie or state") == 3


@pytest.mark.parametrize("name", PUBLIC)
def test_t17_no_public_object_shows_what_it_holds(name: str, scene: Scene) -> None:
    thing = PUBLIC[name](scene)
    kind = getattr(finch_middleware, name)

    scene.things.append(thing)

    # A protocol that is not checked at run time is no type to ask for.
    assert name == "KeyProvider" or isinstance(thing, kind)
    assert scene.leaks() == []


def test_t17_every_public_name_was_searched_or_has_a_reason() -> None:
    assert sorted([*PUBLIC, *BY_NATURE]) == sorted(finch_middleware.__all__)


@pytest.mark.parametrize("channel", PLACES, ids=" ".join)
def test_t17_a_planted_secret_is_found_in_every_spelling(
    channel: tuple[str, str], scene: Scene
) -> None:
    place, _ = channel
    spelled = spellings(SECRET)
    scene.codes.append(SECRET)
    for _, text in spelled:
        PLACES[channel](scene, text.decode())

    found = [leak for leak in scene.leaks() if leak[0] == place]

    assert found == [(place, "code 0", name) for name, _ in spelled]


def test_t17_a_secret_is_planted_in_every_place_but_a_servers_files(scene: Scene) -> None:
    assert {place for place, _ in PLACES} | {"server"} == set(scene.left())


@pytest.mark.parametrize("view", OBJECTS)
def test_t17_a_secret_that_one_view_alone_shows_is_found(view: str) -> None:
    thing = OBJECTS[view]()

    seen = {name for name, look in VIEWS.items() if hits(look(thing), _PLANTED)}

    assert view in seen
    assert seen == {view} or view == "repr"
    assert hits(told_by_object(thing), _PLANTED)


def test_t17_every_view_has_its_planted_secret() -> None:
    assert set(OBJECTS) == set(VIEWS)


@pytest.mark.parametrize("part", ERRORS)
def test_t17_a_secret_in_one_part_of_an_error_is_found(part: str) -> None:
    error = ERRORS[part]()

    found = hits(told_by(error).encode(), _PLANTED)

    assert ("planted", "raw") in found


def test_t17_a_secret_of_ours_hides_itself_from_every_view() -> None:
    assert not hits(told_by_object(Secret(SECRET)), _PLANTED)
