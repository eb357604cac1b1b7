"""/v1/models: what callers may ask for by name."""

import time

from fastapi import APIRouter
from pydantic import BaseModel

from gateway.api.callers import CallerOf, PartsOf
from gateway.api.description import errors
from gateway.errors import NotFound

router = APIRouter(tags=["models"])
_STARTED = int(time.time())


class Model(BaseModel):
    """One model; `created` is when this gateway began to serve it."""

    id: str
    object: str = "model"
    created: int = _STARTED
    owned_by: str = "nanotriton"


class Models(BaseModel):
    """All of them."""

    object: str = "list"
    data: list[Model]


@router.get("/v1/models", responses=errors(401))
async def list_models(caller: CallerOf, parts: PartsOf) -> Models:
    """The models that can be asked for."""
    del caller
    return Models(data=[Model(id=name) for name in _names(parts)])


@router.get("/v1/models/{model}", responses=errors(400, 401, 404))
async def get_model(model: str, caller: CallerOf, parts: PartsOf) -> Model:
    """One of them."""
    del caller
    if model not in _names(parts):
        raise NotFound(
            f"the model {model[:80]!a} isn't there: see /v1/models",
            param="model",
            code="model_not_found",
        )
    return Model(id=model)


def _names(parts: PartsOf) -> list[str]:
    return list(dict.fromkeys(one.model for one in parts.stages.routes.backends()))
