//! The registry's routes (interop 6.1, 6.2): who has which bundle installed, where a host leads, and an install's configuration.

use axum::http::HeaderMap;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::answer::{Answer, Outcome};
use crate::seed::{RegistryInstall, Seed};

/// The operation behind a path, if it is one of the registry's.
pub(crate) fn operation(path: &str) -> Option<&'static str> {
    match path {
        "/api/installs/validate" => Some("validate"),
        "/api/installs/lookup-by-host" => Some("lookup-by-host"),
        "/api/internal/ext-runner/install-config" => Some("install-config"),
        _ => None,
    }
}

/// Answers a request.
pub(crate) fn answer(
    seed: &Seed,
    operation: &str,
    parts: &Parts,
    (token, api_key): (Option<&str>, Option<&str>),
    body: Option<&Value>,
) -> Outcome {
    if operation == "install-config" {
        return install_config(seed, &parts.headers, token, body);
    }
    let key = header(&parts.headers, "x-api-key");
    // The platform's middleware wants the header to be there.
    if key.is_none() || api_key.is_some_and(|expected| key != Some(expected)) {
        return Err(Answer::new(401, json!({ "error": "Unauthorized: API key missing" })));
    }
    let query = |name: &str| query(parts.uri.query().unwrap_or_default(), name).unwrap_or_default();
    if operation == "validate" {
        let (tenant, extension) = (query("tenant"), query("extension"));
        let hash = query("hash").to_lowercase();
        let hash = hash.trim_start_matches("sha256:");
        let has = |install: &RegistryInstall| {
            let hashes = std::iter::once(&install.content_hash).chain(&install.other_bundles);
            (install.tenant == tenant && install.extension == extension)
                && hashes.into_iter().any(|known| known.trim_start_matches("sha256:") == hash)
        };
        return Ok(Answer::ok(json!({ "valid": seed.registry.iter().any(has) })));
    }
    let host = query("host");
    if host.is_empty() {
        return Err(Answer::new(400, json!({ "error": "missing_host" })));
    }
    match seed.registry.iter().find(|install| install.hosts.contains(&host)) {
        Some(install) => Ok(Answer::ok(json!({
            "tenant_id": install.tenant,
            "extension_id": install.extension,
            "content_hash": format!("sha256:{}", install.content_hash.trim_start_matches("sha256:")),
        }))),
        None => Err(Answer::new(404, json!({ "error": "not_found" }))),
    }
}

fn install_config(seed: &Seed, headers: &HeaderMap, token: Option<&str>, body: Option<&Value>) -> Outcome {
    if token.is_some() && header(headers, "x-runner-auth") != token {
        return Err(Answer::new(401, json!({ "error": "unauthorized" })));
    }
    let text = |name: &str| body.and_then(|body| body.get(name)?.as_str());
    let (Some(tenant), Some(extension)) = (text("tenantId"), text("extensionId")) else {
        return Err(Answer::new(400, json!({ "error": "invalid_request" })));
    };
    let is = |install: &&RegistryInstall| {
        install.tenant == tenant
            && [&install.extension, &install.install_id, &install.slug.to_lowercase()]
                .contains(&&extension.to_owned())
    };
    let Some(install) = seed.registry.iter().find(is) else {
        return Err(Answer::new(404, json!({ "error": "install_not_found" })));
    };
    Ok(Answer::ok(json!({
        "tenantId": install.tenant,
        "extensionSlug": install.slug,
        "installId": install.install_id,
        "versionId": install.version_id,
        "registryId": install.extension,
        "contentHash": format!("sha256:{}", install.content_hash.trim_start_matches("sha256:")),
        "config": install.config,
        "providers": install.providers,
        "configVersion": "c-1",
        "secretsVersion": install.secret_envelope.as_ref().map(|_| "s-1"),
        "secretEnvelope": install.secret_envelope,
        "updatedAt": "2026-01-01T00:00:00.000Z",
    })))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn query(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let value = value.replace('+', " ");
        (key == name).then(|| percent_decode_str(&value).decode_utf8_lossy().into_owned())
    })
}
