//! The page: menu, frame, bridge.

use std::collections::HashMap;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, StatusCode};
use longshore_proto::install::Install;
use longshore_registry::{Lookup, RegistryError};
use serde_json::{Value, json};
use url::Url;
use url::form_urlencoded::Serializer;

use super::{DevHost, Host, words};

const PAGE: &str = include_str!("page/host.html");
const STYLE: &str = include_str!("page/host.css");
const SCRIPT: &str = include_str!("page/host.js");

pub(super) async fn index(State(host): Host, headers: HeaderMap) -> Response {
    match shown(&host, None, "/", &headers).await {
        Ok(page) => page,
        Err(error) => unavailable(&error),
    }
}

pub(super) async fn extension(
    State(host): Host,
    Path(parts): Path<HashMap<String, String>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let id = parts.get("id").map_or("", String::as_str);
    let below = parts.get("path").map(|path| format!("/{path}"));
    let path = below.or_else(|| query.get("path").cloned()).unwrap_or_else(|| "/".to_owned());
    let page = match host.registry.find(&host.tenant, id).await {
        Ok(Lookup::Found(install)) => shown(&host, Some(&install), &path, &headers).await,
        Ok(Lookup::Absent) => {
            let text = format!("no extension of tenant {} is called so; see /msp/extensions/", host.tenant);
            return words(StatusCode::NOT_FOUND, text);
        }
        Err(error) => Err(error),
    };
    page.unwrap_or_else(|error| unavailable(&error))
}

/// Which bundle is installed: the page asks each second and shows a new one.
pub(super) async fn state(State(host): Host, Path(id): Path<String>) -> Response {
    match host.registry.find(&host.tenant, &id).await {
        Ok(Lookup::Found(install)) => super::json(&json!({
            "content_hash": install.version.content_hash,
            "version": install.version.version,
            "enabled": install.enabled,
        })),
        Ok(Lookup::Absent) => words(StatusCode::NOT_FOUND, ""),
        Err(error) => unavailable(&error),
    }
}

fn unavailable(error: &RegistryError) -> Response {
    words(StatusCode::SERVICE_UNAVAILABLE, format!("installs cannot be looked up at the moment: {error}"))
}

/// The label in the menu: what the manifest asks for, else the extension's name.
fn label(install: &Install) -> String {
    let hook = install.version.ui.as_ref().and_then(|ui| ui.hooks.pointer("/appMenu/label"));
    let named = hook.and_then(Value::as_str).map(str::trim).filter(|label| !label.is_empty());
    let label = named.or(Some(install.version.name.as_str())).filter(|label| !label.is_empty());
    label.unwrap_or(install.extension.as_str()).chars().take(80).collect()
}

async fn shown(
    host: &DevHost,
    chosen: Option<&Install>,
    path: &str,
    headers: &HeaderMap,
) -> Result<Response, RegistryError> {
    let mut menu: Vec<Value> = Vec::new();
    for install in host.menu.installs(&host.tenant).await? {
        if install.enabled && install.version.ui.is_some() {
            menu.push(json!({ "id": install.extension, "label": label(&install) }));
        }
    }
    let own = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let frame = chosen.map(|install| frame(host, install, path, own));
    let data = json!({ "tenant": host.tenant, "menu": menu, "frame": frame });
    let nonce = BASE64.encode(rand::random::<[u8; 16]>());
    let page = PAGE
        .replace("%NONCE%", &nonce)
        .replace("%STYLE%", STYLE)
        .replace("%SCRIPT%", SCRIPT)
        // Last: what installs are called is text of others and must not be looked through for more.
        .replace("%DATA%", &in_script(&data));
    let other = host.ui_url.as_ref().map(|url| format!(" {}", url.origin().ascii_serialization()));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; frame-src 'self'{}; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        other.unwrap_or_default()
    );
    let mut answer = ([(CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response();
    let fixed = answer.headers_mut();
    fixed.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fixed.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        fixed.insert(CONTENT_SECURITY_POLICY, policy);
    }
    Ok(answer)
}

/// What the script needs to show an extension.
fn frame(host: &DevHost, install: &Install, path: &str, own: &str) -> Value {
    let query = Serializer::new(String::new())
        .append_pair("tenant", host.tenant.as_str())
        .append_pair("extensionId", install.extension.as_str())
        .append_pair("path", path)
        // The SDK of the pages believes messages of this origin alone.
        .append_pair("parentOrigin", &format!("http://{own}"))
        .finish();
    let (src, origin) = match &host.ui_url {
        Some(url) => (below(url, &query), Some(url.origin().ascii_serialization())),
        None => {
            // Checked ids: they need no escaping but the colon's.
            let (extension, hash) = (&install.extension, install.version.content_hash.hex());
            (format!("/ext-ui/{extension}/sha256%3A{hash}/index.html?{query}"), None)
        }
    };
    // A development server's own origin is another one than this page's, so it may be one; without it, its scripts would not load.
    let foreign = origin.filter(|origin| *origin != format!("http://{own}"));
    let sandbox = match &foreign {
        Some(_) => "allow-scripts allow-forms allow-same-origin",
        None => "allow-scripts allow-forms",
    };
    json!({
        "id": install.extension,
        "label": label(install),
        "src": src,
        "sandbox": sandbox,
        // What the browser says of where the frame's messages come from: a sandboxed page has no origin.
        "origin": foreign.as_deref().unwrap_or("null"),
        "path": path,
        "content_hash": install.version.content_hash,
        "version": install.version.version,
        "watch": host.ui_url.is_none(),
    })
}

fn below(url: &Url, query: &str) -> String {
    let mut url = url.clone();
    let merged = match url.query() {
        Some(own) if !own.is_empty() => format!("{own}&{query}"),
        _ => query.to_owned(),
    };
    url.set_query(Some(&merged));
    url.into()
}

/// JSON inside a `<script>`: nothing in it ends the element or begins a comment.
fn in_script(data: &Value) -> String {
    data.to_string().replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_an_extension_ends_the_script() {
        let text = in_script(&json!({"label": "</script><script>alert(1)</script><!--"}));
        assert!(!text.contains('<'), "{text}");
        let back: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back["label"], "</script><script>alert(1)</script><!--");
    }

    #[test]
    fn a_development_servers_own_query_is_kept() {
        let url = |text: &str| below(&text.parse().unwrap(), "tenant=t");
        assert_eq!(
            url("http://localhost:5173/index.html?a=1"),
            "http://localhost:5173/index.html?a=1&tenant=t"
        );
        assert_eq!(url("http://localhost:5173"), "http://localhost:5173/?tenant=t");
    }

    #[test]
    fn the_page_holds_nothing_from_elsewhere_and_each_place_once() {
        for place in ["%DATA%", "%STYLE%", "%SCRIPT%"] {
            assert_eq!(PAGE.matches(place).count(), 1, "{place}");
        }
        for text in [PAGE, STYLE, SCRIPT] {
            assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("@import"));
        }
        assert!(!SCRIPT.contains("</script") && !SCRIPT.contains("innerHTML") && !SCRIPT.contains("eval("));
    }
}
