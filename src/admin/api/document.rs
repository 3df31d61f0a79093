//! The description of the API (OpenAPI 3.1): made from the code of the routes; here is what all of them share.

use serde_json::{Map, Value, json};
use utoipa::{
    PartialSchema,
    openapi::{
        Components, Info, License, OpenApi, OpenApiBuilder, PathItem, Server, Tag,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use crate::admin::{problem::Problem, tokens::Scope};

/// What stands above the routes.
pub(super) fn head() -> OpenApi {
    let mut info = Info::new("Sluis: administrators' API", env!("CARGO_PKG_VERSION"));
    info.description = Some(ABOUT.to_owned());
    info.license = Some(License::new("Apache-2.0"));
    let mut components = Components::new();
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(TOKENS)).build();
    components.add_security_scheme(SCHEME, SecurityScheme::Http(scheme));
    components.schemas.insert("Problem".to_owned(), Problem::schema());
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([Server::new(super::PREFIX)]))
        .components(Some(components))
        .tags(Some(["users", "tokens", "server", "audit"].map(Tag::new)))
        .build()
}

/// All operations of these routes need this scope.
pub(super) fn needs(routes: &mut OpenApi, scope: Scope) {
    for item in routes.paths.paths.values_mut() {
        for operation in operations(item) {
            operation.security = Some(vec![SecurityRequirement::new(SCHEME, [scope.name()])]);
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

/// The whole text, with the answers that every operation can give.
pub(super) fn finished(document: &OpenApi) -> String {
    let mut whole = serde_json::to_value(document).unwrap_or_default();
    let paths = whole.get_mut("paths").and_then(Value::as_object_mut);
    for item in paths.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        for (method, operation) in item.iter_mut() {
            let Some(operation) = operation.as_object_mut() else { continue };
            add_shared(operation, method != "get");
        }
    }
    if let Some(components) = whole.get_mut("components").and_then(Value::as_object_mut) {
        components.insert("responses".to_owned(), shared());
        components.insert("parameters".to_owned(), json!({ "IdempotencyKey": key() }));
    }
    whole.to_string()
}

fn add_shared(operation: &mut Map<String, Value>, writes: bool) {
    if let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) {
        if let Some(done) = responses.get_mut("200").and_then(Value::as_object_mut) {
            done.entry("description").or_insert_with(|| "Done.".into());
        }
        for (status, name, ..) in SHARED {
            responses
                .insert((*status).to_owned(), json!({ "$ref": format!("#/components/responses/{name}") }));
        }
    }
    if writes {
        let parameters = operation.entry("parameters").or_insert_with(|| json!([]));
        if let Some(parameters) = parameters.as_array_mut() {
            parameters.push(json!({ "$ref": "#/components/parameters/IdempotencyKey" }));
        }
    }
}

fn shared() -> Value {
    let integer = json!({ "schema": { "type": "integer", "minimum": 1 } });
    let text = json!({ "schema": { "type": "string" } });
    let one = |(_, name, description): &(&str, &str, &str)| {
        let mut answer = json!({
            "description": description,
            "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
        });
        if let Some(answer) = answer.as_object_mut() {
            match *name {
                "Unauthorized" | "Forbidden" => {
                    answer.insert("headers".to_owned(), json!({ "WWW-Authenticate": text }));
                }
                "TooMany" | "Unavailable" => {
                    answer.insert("headers".to_owned(), json!({ "Retry-After": integer }));
                }
                _ => {}
            }
        }
        ((*name).to_owned(), answer)
    };
    SHARED.iter().map(one).collect::<Map<String, Value>>().into()
}

fn key() -> Value {
    json!({
        "name": "Idempotency-Key",
        "in": "header",
        "required": false,
        "description": "With the same key the same request is answered with the same answer for 24 hours, and acted on once; with \
                        the key of another request it is refused (422).",
        "schema": { "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]{1,128}$" },
    })
}

/// Status, name, meaning.
const SHARED: &[(&str, &str, &str)] = &[
    ("401", "Unauthorized", "No token, or one that is unknown, has ended or was revoked."),
    ("403", "Forbidden", "The token has not the scope, or the helpdesk would act on an administrator."),
    ("429", "TooMany", "Too many requests of this token or address."),
    ("503", "Unavailable", "The store or the audit log does not work: whether it was done is not known."),
    (
        "default",
        "Problem",
        "Anything else that went wrong: 400 unreadable, 404 not there, 405 not with this method, 409 the same request is being \
         done, 413 too large, 415 not JSON, 422 readable but not possible.",
    ),
];
const SCHEME: &str = "token";
const ABOUT: &str = "Users, their authenticators and sessions. Every act is in the audit log under the name of the token, and \
                     takes effect at every replica before it is answered.";
const TOKENS: &str = "A token that `sluis token create` made. `read` reads everything but the audit log, `audit` reads that, `helpdesk` resets, unlocks, invites and signs \
                      out users who are no administrators, `admin` does everything.";
