"""Whether an output folder is free for a model, or holds the same one already."""

from collections.abc import Collection
from typing import Any

from rnnlm.config import differences
from rnnlm.errors import RefusedError
from rnnlm.storage import Location


def refuse_another(
    folder: Location, card_name: str, identity: dict[str, Any], *, begun: Collection[str], what: str
) -> None:
    """Raise RefusedError if the folder's card has another `trained.identity`, or if there is no card but files other
    than those that an unfinished folder may hold (`begun`). `what` is the kind of model, with its article."""
    if folder.join(card_name).exists():
        card = folder.join(card_name).read_json()
        found = card.get("trained", {}).get("identity") if isinstance(card, dict) else None
        if found is None:
            raise RefusedError(folder.uri, [f"its {card_name} is not that of {what}"])
        if changed := differences(found, identity):
            raise RefusedError(folder.uri, changed)
    elif foreign := [name for name in folder.list_files() if name not in begun]:
        raise RefusedError(folder.uri, [f"it holds {', '.join(foreign[:3])} and no {card_name}"])
