"""`/v1/products`."""

from __future__ import annotations

from typing import Any

from billing.stripe_sandbox.answers import (
    answer,
    created_filter,
    emit,
    equal_filter,
    merged_metadata,
    page,
)
from billing.stripe_sandbox.engine import Call, Sandbox, World, new_id
from billing.stripe_sandbox.errors import Failure
from billing.stripe_sandbox.routing import route
from billing.stripe_sandbox.store import Doc

UPDATABLE = (
    "active",
    "default_price",
    "description",
    "images",
    "marketing_features",
    "name",
    "package_dimensions",
    "shippable",
    "statement_descriptor",
    "tax_code",
    "unit_label",
    "url",
)


def new_product(sandbox: Sandbox, world: World, params: dict[str, Any]) -> Doc:
    """Returns a stored new product; also used for `product_data` of a price."""
    now = sandbox.clock.seconds()
    identifier = params.get("id") or new_id("prod", 14)
    if sandbox.store.get(world.name, "product", identifier):
        raise Failure("Product already exists.", code="resource_already_exists", param="id")
    doc: Doc = {
        "id": identifier,
        "object": "product",
        "active": params.get("active", True),
        "created": now,
        "default_price": None,
        "description": params.get("description"),
        "images": params.get("images", []),
        "livemode": world.livemode,
        "marketing_features": params.get("marketing_features", []),
        "metadata": merged_metadata({}, params.get("metadata")),
        "name": params["name"],
        "package_dimensions": params.get("package_dimensions"),
        "shippable": params.get("shippable"),
        "statement_descriptor": params.get("statement_descriptor"),
        "tax_code": params.get("tax_code"),
        "type": "service",
        "unit_label": params.get("unit_label"),
        "updated": now,
        "url": params.get("url"),
    }
    return sandbox.store.put(world.name, "product", doc)


@route("POST", "/v1/products")
def create(sandbox: Sandbox, call: Call) -> Doc:
    """Creates a product."""
    doc = new_product(sandbox, call.world, call.params)
    emit(sandbox, call.world, "product.created", "product", doc, call=call)
    return answer(sandbox, call, "product", doc)


@route("GET", "/v1/products")
def index(sandbox: Sandbox, call: Call) -> Doc:
    """Lists products, newest first."""
    docs = created_filter(call, sandbox.store.all(call.world.name, "product"))
    ids = call.params.get("ids")
    if ids:
        docs = [doc for doc in docs if doc["id"] in ids]
    return page(sandbox, call, "product", equal_filter(call, docs, "active", "shippable", "url"))


@route("GET", "/v1/products/{id}")
def show(sandbox: Sandbox, call: Call) -> Doc:
    """Returns a product."""
    return answer(sandbox, call, "product", sandbox.find(call.world, "product", call.args["id"]))


@route("POST", "/v1/products/{id}")
def update(sandbox: Sandbox, call: Call) -> Doc:
    """Changes a product."""
    old = sandbox.find(call.world, "product", call.args["id"])
    changes: Doc = {name: call.params[name] for name in UPDATABLE if name in call.params}
    for name, value in changes.items():
        changes[name] = None if value == "" else value
    if "metadata" in call.params:
        changes["metadata"] = merged_metadata(old["metadata"], call.params["metadata"])
    previous = {name: old[name] for name in changes}
    doc = sandbox.store.put(
        call.world.name, "product", old | changes | {"updated": sandbox.clock.seconds()}
    )
    emit(sandbox, call.world, "product.updated", "product", doc, previous=previous, call=call)
    return answer(sandbox, call, "product", doc)


@route("GET", "/v1/products/{id}/features")
def features(sandbox: Sandbox, call: Call) -> Doc:
    """Returns no features: they are not modelled, but dj-stripe asks for them."""
    sandbox.find(call.world, "product", call.args["id"])
    return {"object": "list", "data": [], "has_more": False, "url": call.path}


@route("DELETE", "/v1/products/{id}")
def delete(sandbox: Sandbox, call: Call) -> Doc:
    """Deletes a product that has no prices."""
    doc = sandbox.find(call.world, "product", call.args["id"])
    prices = sandbox.store.all(call.world.name, "price")
    if any(price["product"] == doc["id"] for price in prices):
        raise Failure(
            "This product cannot be deleted because it has one or more user-created prices."
        )
    sandbox.store.delete(call.world.name, "product", doc["id"])
    emit(sandbox, call.world, "product.deleted", "product", doc, call=call)
    return {"id": doc["id"], "object": "product", "deleted": True}
