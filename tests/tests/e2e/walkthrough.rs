//! The existing platform's guide for local development, step by step with our commands: store, pack, hash, upload, install, call through the gateway, the
//! page in a real browser with the sandbox of its frame, uninstall. docs/local-development.md walks the same steps.

use std::path::{Path, PathBuf};

use longshore_tests::{Admin, Browser, Service, Shell, Stack, paths};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const TENANT: &str = "1573867a-384d-4555-a206-bcfd86440ac1";
const EXTENSION: &str = "com.example.walkthrough";

/// The project of somebody who has followed the guide: a handler, and a page with a script and a style sheet in files of their own.
fn project(folder: &Path, greeting: &str) -> PathBuf {
    let project = folder.join("project");
    for part in ["dist", "ui"] {
        std::fs::create_dir_all(project.join(part)).unwrap();
    }
    let manifest = json!({
        "name": EXTENSION, "publisher": "Example", "version": "0.1.1", "runtime": "wasm-js@1",
        "capabilities": ["cap:context.read", "cap:log.emit", "cap:user.read", "cap:http.fetch"],
        "ui": { "type": "iframe", "entry": "ui/index.html", "hooks": { "appMenu": { "label": "Walkthrough" } } },
        "api": { "endpoints": [{ "method": "GET", "path": "/hello", "handler": "dist/main" }] },
    });
    let script = r#"
        'use strict';
        const tell = (type, payload, request_id) =>
          parent.postMessage({ alga: true, version: '1', type, payload, request_id }, '*');
        document.body.dataset.script = 'ran';
        let same = 'no';
        try { same = parent.document.title; } catch { same = 'refused'; }
        document.body.dataset.parent = same;
        addEventListener('message', (event) => {
          if (event.data?.type === 'bootstrap') {
            document.body.dataset.bootstrap = 'yes';
            tell('apiproxy', { route: '/hello', method: 'GET' }, 'request-1');
          }
          if (event.data?.type === 'apiproxy_response') {
            document.body.dataset.answer = event.data.payload.body ? atob(event.data.payload.body) : event.data.payload.error;
          }
        });
        tell('ready', {});
        tell('resize', { height: 432 });
    "#;
    // Over a kilobyte, so that it is worth compressing.
    let style = format!(
        "h1 {{ color: rgb(1, 2, 3); }}\n{}",
        "/* the style sheet of the walk-through */\n".repeat(60)
    );
    let page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{greeting}</title>\
         <link rel=stylesheet href=style.css><body><h1>{greeting}</h1><script src=app.js></script></body></html>"
    );
    let write = |path: &str, bytes: &[u8]| std::fs::write(project.join(path), bytes).unwrap();
    write("manifest.json", manifest.to_string().as_bytes());
    write("dist/main.wasm", &std::fs::read(paths::example("hello-rust").join("dist/main.wasm")).unwrap());
    write("ui/index.html", page.as_bytes());
    write("ui/app.js", script.as_bytes());
    write("ui/style.css", style.as_bytes());
    write("ui/.DS_Store", b"what a desktop leaves behind");
    project
}

async fn fleet() -> (Stack, Admin, [Service; 2], Service, Shell) {
    let gateway = [("LONGSHORE_DEV_TENANT", TENANT), ("EXT_STATIC_STRICT_VALIDATION", "false")];
    let (stack, admin, workers, gateway) = Stack::standalone::<2>(&[], &gateway).await;
    let shell = Shell::new(&admin, &gateway, TENANT);
    (stack, admin, workers, gateway, shell)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_walk_through_works_from_the_store_to_the_uninstall() {
    let (stack, _admin, _workers, _gateway, mut shell) = fleet().await;
    let project = project(shell.folder(), "First");
    let folder = project.to_str().unwrap();

    // 5. Create the bundle: the same files give the same bytes, named by their hash; what a desktop leaves behind stays out.
    let packed = shell.ok(&["pack", folder, "--out", "bundle.tar.zst"]);
    let archive = std::fs::read(shell.folder().join("bundle.tar.zst")).unwrap();
    let hash = packed["content_hash"].as_str().unwrap().to_owned();
    assert_eq!(hash, format!("sha256:{}", hex(&Sha256::digest(&archive))));
    let again = shell.ok(&["pack", folder, "--out", "again.tar.zst"]);
    assert_eq!(again["content_hash"], packed["content_hash"]);
    let listed = shell.ok(&["show", "--files", "bundle.tar.zst"]).to_string();
    assert!(listed.contains("ui/app.js") && !listed.contains(".DS_Store"), "{listed}");
    let extension = packed["extension_id"].as_str().unwrap().to_owned();

    // Upload by hand, to the guide's key, and install what was uploaded.
    stack.store.upload(TENANT, &extension, &archive);
    let said = shell.longshore(&["install", &hash, "--extension", &extension]);
    assert!(
        said.code != 0 && said.all.contains("cap:http.fetch"),
        "without a grant it names what is asked for: {said:?}"
    );
    shell.ok(&["install", &hash, "--extension", &extension, "--grant-all"]);
    assert!(shell.ok(&["list"]).to_string().contains(&extension));

    // 7. Call the handler through the gateway: with a token, from anywhere.
    let token = shell.ok(&["token", "create", "--access", "read"]);
    let secret = token["secret"].as_str().unwrap();
    shell.set("LONGSHORE_TOKEN", secret);
    let bearer = format!("authorization: Bearer {secret}");
    for name in [extension.as_str(), EXTENSION, "example.com.example.walkthrough"] {
        let (status, head, body) = shell.curl(&["-H", &bearer], &format!("/api/ext/{name}/hello"));
        assert_eq!(status, 200, "{head}");
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((answer["from"].as_str(), answer["tenant"].as_str()), (Some("rust"), Some(TENANT)));
    }
    let (status, _, body) = shell.curl(&["-H", &bearer], &format!("/api/ext/{EXTENSION}/nowhere"));
    assert_eq!((status, code_in(&body).as_str()), (404, "endpoint_not_found"));
    let called = shell.ok(&["call", EXTENSION, "--path", "/hello"]);
    assert!(called.to_string().contains("rust"), "{called:#}");

    // The page, in a browser.
    let browser = Browser::start().await;
    browser.open(&format!("{}/msp/extensions/{extension}/", shell.gateway())).await;
    browser.until("document.querySelector('iframe') !== null").await;
    assert_eq!(browser.value("document.querySelector('nav').textContent").await, "Walkthrough");
    let sandbox = browser.value("document.querySelector('iframe').getAttribute('sandbox')").await;
    assert!(sandbox.as_str().unwrap().contains("allow-scripts"), "{sandbox}");
    assert!(!sandbox.as_str().unwrap().contains("allow-same-origin"), "{sandbox}");
    browser.until("document.querySelector('iframe').style.height === '432px'").await;
    browser.enter_frame("iframe").await;
    browser.until("document.body.dataset.answer !== undefined").await;
    assert_eq!(browser.value("document.body.dataset.script").await, "ran");
    assert_eq!(
        browser.value("document.body.dataset.parent").await,
        "refused",
        "the frame cannot read its host"
    );
    assert_eq!(
        browser.value("getComputedStyle(document.querySelector('h1')).color").await,
        "rgb(1, 2, 3)",
        "the style sheet is loaded"
    );
    let answer = browser.value("JSON.parse(document.body.dataset.answer)").await;
    assert_eq!(answer["from"], "rust", "{answer:#}");
    browser.assert_no_complaints().await;
    browser.leave_frame().await;

    // A bundle replaced by another is seen at once, by whoever has the page open and whoever opens it.
    self::project(shell.folder(), "Second");
    let replaced = shell.ok(&["install", folder, "--grant-all"]);
    assert_ne!(replaced["install"]["version"]["content_hash"], packed["content_hash"], "{replaced:#}");
    browser.open(&format!("{}/msp/extensions/{extension}/", shell.gateway())).await;
    browser.until("document.querySelector('iframe') !== null").await;
    browser.enter_frame("iframe").await;
    browser.until("document.body !== null && document.body.dataset.answer !== undefined").await;
    assert_eq!(browser.value("document.querySelector('h1').textContent").await, "Second");
    browser.assert_no_complaints().await;
    drop(browser);

    // Uninstall: the next call is a clear 404, other words than for a wrong path.
    shell.ok(&["uninstall", EXTENSION]);
    let (status, _, body) = shell.curl(&["-H", &bearer], &format!("/api/ext/{EXTENSION}/hello"));
    assert_eq!((status, code_in(&body).as_str()), (404, "extension_not_found"));
    assert_eq!(shell.longshore(&["show", EXTENSION]).failure(), (3, "install_not_found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_sees_not_modified_ranges_compression_and_the_policy_of_a_page() {
    let (_stack, _admin, _workers, _gateway, shell) = fleet().await;
    let project = project(shell.folder(), "Assets");
    let installed = shell.ok(&["install", project.to_str().unwrap(), "--grant-all"]);
    let hash = installed["install"]["version"]["content_hash"].as_str().unwrap().to_owned();
    let extension = installed["install"]["extension"].as_str().unwrap().to_owned();
    let at = |file: &str| format!("/ext-ui/{extension}/{}/{file}?tenant={TENANT}", hash.replace(':', "%3A"));

    let (status, head, page) = shell.curl(&[], &at("index.html"));
    assert_eq!(status, 200, "{head}");
    assert!(head.contains("content-security-policy: default-src 'self'"), "{head}");
    assert!(String::from_utf8_lossy(&page).contains("Assets"));

    let (status, head, style) = shell.curl(&[], &at("style.css"));
    assert!(status == 200 && head.contains("max-age=31536000, immutable"), "{head}");
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().trim().to_owned();
    assert_eq!(etag, format!("\"sha256-{}\"", hex(&Sha256::digest(&style))));

    let (status, head, body) = shell.curl(&["-H", &format!("if-none-match: {etag}")], &at("style.css"));
    assert!(status == 304 && body.is_empty() && head.contains(&etag), "{head}");

    let (status, head, part) = shell.curl(&["-H", "range: bytes=3-9"], &at("style.css"));
    assert_eq!((status, part.as_slice()), (206, &style[3..10]), "{head}");
    assert!(head.contains(&format!("content-range: bytes 3-9/{}", style.len())), "{head}");

    let (status, head, packed) = shell.curl(&["-H", "accept-encoding: gzip"], &at("style.css"));
    assert!(status == 200 && head.contains("content-encoding: gzip") && packed.len() < style.len(), "{head}");
    let (_, head, unpacked) = shell.curl(&["--compressed"], &at("style.css"));
    assert!(head.contains("content-encoding"), "{head}");
    assert_eq!(unpacked, style, "curl unpacks what was sent");

    let (status, head, _) = shell.curl(&[], &at("missing.js"));
    assert!(status == 404 && !head.contains("immutable"), "{head}");
    let (status, head, page) = shell.curl(&["-H", "accept: text/html"], &at("a/route/of/the/page"));
    assert!(status == 200 && !head.contains("immutable"), "{head}");
    assert!(String::from_utf8_lossy(&page).contains("Assets"), "a navigation falls back to the page");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn code_in(body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    json["code"].as_str().unwrap_or_default().to_owned()
}
