"""Creating objects from configs, whether they are the caller's own or come from a file."""

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.config.foreign import check_foreign, nodes, trusted, with_known
from zoo.config.own import allow
from zoo.errors import ZooError


def build(config: Mapping[str, Any], where: str = "model", trust: Sequence[str] | None = (), **arguments: Any) -> Any:
    """Create the model, task or data that a config names.

    Args:
        where: the name of this part of the config on the command line, for messages.
        trust: what the user trusts in a config from a file: names of modules that it may use besides the zoo's, and
            paths, as in "data.file=my.txt", which replace the file's. None means that the config is the caller's own
            and trusted as a whole.
        arguments: further arguments, which take precedence over the config's.

    Raises:
        ZooError: the config names a class or a path that is not trusted, or an argument is unknown to its class or
            has an invalid value.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from omegaconf.errors import OmegaConfBaseException

    from zoo.config.checks import check_node, locate

    if not isinstance(config, Mapping) or "_target_" not in config:
        raise ZooError(f"{where}: _target_, the name of a class, is missing")
    config = {key: value for key, value in config.items() if key not in arguments}
    # a plain preprocess is called without Hydra: a vocabulary is long, and Hydra would interpret ${ or ??? in it
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
