"""Instantiating configs, of one's own and of files."""

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.config.foreign import check_foreign, nodes, trusted, with_known
from zoo.config.own import allow
from zoo.errors import ZooError


def build(config: Mapping[str, Any], where: str = "model", trust: Sequence[str] | None = (), **arguments: Any) -> Any:
    """Instantiate a config of a model, a task or data.

    Args:
        where: how the command line calls it, for messages.
        trust: what the user knows: modules of the user's own that a config from a file may name besides the zoo's, and
            paths as "data.file=my.txt", which take the place of the file's; None trusts the config altogether (it is
            the caller's own).
        arguments: further arguments, or others than the config's.

    Raises:
        ZooError: a target or a path that is not trusted; an argument that its class does not take or cannot use.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from omegaconf.errors import OmegaConfBaseException

    from zoo.config.checks import check_node, locate

    if not isinstance(config, Mapping) or "_target_" not in config:
        raise ZooError(f"{where}: _target_, the name of a class, is missing")
    config = {key: value for key, value in config.items() if key not in arguments}
    # one call, and values that are what they look like: a vocabulary is long, and may have ${ or ??? in it
    inner = (str(key) for place, node in nodes(config) for key in node if place or key != "_target_")
    plain = where == "preprocess" and not any(key.startswith("_") for key in inner)
    if trust is None:
        allow(str(node["_target_"]) for _, node in nodes(config) if "_target_" in node)
    else:
        modules, known = trusted(trust)
        allow(modules)
        check_foreign({"_target_": config["_target_"]} if plain else config, trust, where)
        config = with_known(config, where, known)
    check_node(config, where)
    try:
        if plain:
            given = {key: value for key, value in config.items() if key != "_target_"}
            return locate(str(config["_target_"]), where)(**given, **arguments)
        return instantiate(dict(config), _convert_="all", **arguments)
    except (InstantiationException, OmegaConfBaseException, TypeError) as error:
        cause: BaseException = error
        while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, ZooError):
            raise cause from None
        raise ZooError(f"{where}={config['_target_']}: {' '.join(str(cause).split())}") from cause
