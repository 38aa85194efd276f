//! Everything that the guide calls an issue, broken on purpose: what `doctor` says of it, and that it ends with 1.

use longshore_proto::ContentHash;
use longshore_tests::admin::ADMIN_TOKEN;
use longshore_tests::stack::STREAM_PREFIX;
use longshore_tests::{Admin, Service, Shell, Stack, paths, store, wait};
use serde_json::{Value, json};

use super::{file, log_in, text};

const TENANT: &str = "tenant-1";
const PAGES: &str = "com.longshore.test.pages";

/// A shell that knows the servers as an operator's does.
fn shell(stack: &Stack, admin: &Admin, gateway: &Service) -> Shell {
    let mut shell = Shell::new(admin, gateway, TENANT);
    for (name, value) in [
        ("NATS_URL", stack.nats.url().as_str()),
        ("NATS_USER", "control"),
        ("NATS_PASSWORD", stack.nats.password("control")),
        ("RUNNER_DEBUG_REDIS_URL", &stack.redis.url()),
        ("RUNNER_DEBUG_REDIS_STREAM_PREFIX", STREAM_PREFIX),
        ("BUNDLE_STORE_BASE", &stack.store.base()),
        ("S3_ACCESS_KEY", store::ACCESS_KEY),
        ("S3_SECRET_KEY", store::SECRET_KEY),
    ] {
        shell.set(name, value);
    }
    shell
}

/// The lines of a kind of trouble.
fn lines<'r>(report: &'r Value, code: &str) -> Vec<&'r Value> {
    report["findings"].as_array().unwrap().iter().filter(|finding| finding["code"] == code).collect()
}

/// Asserts that all is well, or at least not wrong, with these notes.
fn well(shell: &Shell, args: &[&str], notes: &[&str]) -> Value {
    let report = shell.ok(&[&["doctor"], args].concat());
    let found: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["state"] == "warning")
        .map(|finding| text(finding, "/code"))
        .collect();
    assert_eq!((&report["healthy"], found.as_slice()), (&json!(true), notes), "{report:#}");
    report
}

/// Asserts that `doctor` names this trouble in a line, with what to do below it, and ends with 1; the line.
fn wrong(shell: &Shell, args: &[&str], what: &str, code: &str, words: &str) -> String {
    let said = shell.longshore(&[&["doctor"], args].concat());
    assert_eq!((said.code, &said.json["healthy"]), (1, &json!(false)), "{code}: {}", said.all);
    let found = lines(&said.json, code);
    let line = found.iter().find(|finding| finding["what"] == what && finding["state"] == "wrong");
    let line = line.unwrap_or_else(|| panic!("{what} {code}: {}", said.all));
    assert!(line["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{line:#}");
    let message = text(line, "/message").to_owned();
    assert!(message.contains(words), "{words}: {message}");
    let people = shell.plain(&[&["doctor"], args].concat());
    let wanted = format!("WRONG  {what:<10} ");
    assert!(people.code == 1 && people.stdout.contains(&wanted), "{wanted}: {}", people.all);
    message
}

/// A project with a handler and a page.
fn pages() -> Vec<u8> {
    let manifest = json!({
        "name": PAGES, "publisher": "Longshore", "version": "1.0.0", "runtime": "wasm-js@1",
        "ui": { "type": "iframe", "entry": "ui/index.html", "hooks": { "appMenu": { "label": "Pages" } } },
        "api": { "endpoints": [{ "method": "GET", "path": "/", "handler": "dist/main" }] },
    });
    let files = [
        ("manifest.json", manifest.to_string().into_bytes()),
        ("dist/main.wasm", paths::guest("echo")),
        ("ui/index.html", b"<!doctype html><title>Pages</title>".to_vec()),
    ];
    longshore_bundle::archive::pack_files(files, 3).unwrap()
}

/// Lets the record of the install name another bundle, as one does that was written by hand.
async fn point_at(stack: &Stack, from: &str, to: ContentHash) {
    let nats = stack.nats.client("admin").await;
    let bucket =
        async_nats::jetstream::new(nats.client.clone()).get_key_value("longshore-installs").await.unwrap();
    let mut keys = bucket.keys().await.unwrap();
    while let Some(key) = futures::TryStreamExt::try_next(&mut keys).await.unwrap() {
        let record = String::from_utf8(bucket.get(&key).await.unwrap().unwrap().to_vec()).unwrap();
        if record.contains(from) {
            bucket.put(&key, record.replace(from, &to.hex()).into()).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_install_and_its_bundle_is_named() {
    let (stack, admin, [_worker], gateway) =
        Stack::standalone(&[], &[("EXT_STATIC_STRICT_VALIDATION", "false")]).await;
    let mut shell = shell(&stack, &admin, &gateway);
    let bundle = file(&shell, "pages.tar.zst", &pages());
    let installed = shell.ok(&["install", &bundle, "--grant-all"]);
    let extension = text(&installed, "/install/extension").to_owned();
    let hash: ContentHash = text(&installed, "/install/version/content_hash").parse().unwrap();
    let one = ["--extension", PAGES];
    let report = well(&shell, &one, &["unsigned"]);
    for part in [
        "nats",
        "nats login",
        "jetstream",
        "redis",
        "store",
        "gateway",
        "clock",
        "admin",
        "workers",
        "versions",
        "bundle",
        "pages",
    ] {
        let line = report["findings"].as_array().unwrap().iter().find(|finding| finding["what"] == part);
        assert!(line.is_some_and(|line| line["state"] == "ok"), "{part}: {report:#}");
    }

    // Who has it.
    wrong(&shell, &["--extension", "com.example.none"], "install", "extension_not_found", PAGES);
    let other = ["--extension", PAGES, "--tenant", "tenant-2"];
    wrong(&shell, &other, "install", "other_tenant", "is installed for tenant tenant-1, not for tenant-2");
    shell.ok(&["disable", PAGES]);
    wrong(&shell, &one, "install", "disabled", "its calls are refused");
    shell.ok(&["enable", PAGES]);

    // Its bundle: gone, damaged, and back.
    let at = stack.store.path(TENANT, &extension, hash);
    std::fs::remove_file(&at).unwrap();
    wrong(&shell, &one, "bundle", "extract_failed", "there is nothing at");
    wrong(&shell, &[], "bundle", "extract_failed", &hash.hex());
    let mut damaged = pages();
    *damaged.last_mut().unwrap() ^= 1;
    stack.store.put(TENANT, &extension, hash, &damaged);
    let message = wrong(&shell, &one, "bundle", "archive_hash_mismatch", &hash.hex());
    assert!(message.contains(&longshore_bundle::archive::content_hash(&damaged).hex()), "{message}");
    stack.store.put(TENANT, &extension, hash, &pages());
    well(&shell, &one, &["unsigned"]);

    // Records that name what was uploaded by hand: no archive, and one without the page that the manifest promised.
    let junk = stack.store.upload(TENANT, &extension, b"this is no archive");
    point_at(&stack, &hash.hex(), junk).await;
    wait::until("the record of a broken archive", wait::LIMIT, async || {
        let shown = shell.ok(&["show", PAGES]).to_string();
        if shown.contains(&junk.hex()) { Ok(()) } else { Err(shown) }
    })
    .await;
    wrong(&shell, &one, "bundle", "extract_failed", "cannot be unpacked");
    wrong(&shell, &one, "pages", "extract_failed", "/ext-ui/");
    let without = stack.store.upload(TENANT, &extension, &store::bundle("echo"));
    point_at(&stack, &junk.hex(), without).await;
    wait::until("the record of a bundle without pages", wait::LIMIT, async || {
        let shown = shell.ok(&["show", PAGES]).to_string();
        if shown.contains(&without.hex()) { Ok(()) } else { Err(shown) }
    })
    .await;
    wrong(&shell, &one, "pages", "ui_not_loading", "404");

    // Handlers: one that nobody declared, and one that traps.
    let trap = file(
        &shell,
        "trap.tar.zst",
        &store::extension("trap", "trap", "1.0.0", &["cap:log.emit"], &["GET /"]),
    );
    shell.ok(&["install", &trap, "--grant-all"]);
    let silent = file(&shell, "silent.tar.zst", &store::extension("silent", "echo", "1.0.0", &[], &[]));
    shell.ok(&["install", &silent, "--grant-all"]);
    log_in(&mut shell, TENANT);
    let name = "com.longshore.test.silent";
    let called = shell.longshore(&["call", name, "--path", "/hello"]);
    assert!(called.code == 3 && called.all.contains("endpoint_not_found"), "{}", called.all);
    well(&shell, &["--extension", name], &["no_endpoints", "unsigned"]);
    let name = "com.longshore.test.trap";
    let called = shell.longshore(&["call", name]);
    assert!(called.code == 1 && called.json["status"] == 502, "{}", called.all);
    wait::until("the trap among the events", wait::LIMIT, async || {
        let report = shell.ok(&["doctor", "--extension", name]);
        match lines(&report, "last_run_failed").first() {
            Some(line) if text(line, "/message").contains("trap") => Ok(()),
            _ => Err(report.to_string()),
        }
    })
    .await;
    // One that answers, and the same extension of a tenant that has not run it: another's failures are not its own.
    shell.ok(&["install", &trap, "--grant-all", "--tenant", "tenant-2"]);
    let report = shell.ok(&["doctor", "--extension", name, "--tenant", "tenant-2"]);
    assert!(lines(&report, "last_run_failed").is_empty(), "{report:#}");
    assert_eq!(shell.ok(&["call", name, "--path", "/?kind=none"])["status"], 200);
    wait::until("an answer among the events", wait::LIMIT, async || {
        let report = shell.ok(&["doctor", "--extension", name]);
        if lines(&report, "last_run_failed").is_empty() { Ok(()) } else { Err(report.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_servers_is_named() {
    let (mut stack, admin, [mut worker], mut gateway) = Stack::standalone(&[], &[]).await;
    let mut shell = shell(&stack, &admin, &gateway);
    well(&shell, &[], &[]);

    // What an operator gets wrong in the settings.
    let closed = format!("127.0.0.1:{}", paths::free_port());
    let base = stack.store.base();
    let no_bucket = base.replace("/extensions", "/nowhere");
    assert_ne!(no_bucket, base);
    for (name, value, what, code, words) in [
        ("NATS_PASSWORD", "wrong", "nats login", "nats_login", "control is refused"),
        ("NATS_URL", &format!("nats://{closed}"), "nats", "nats_unreachable", closed.as_str()),
        ("NATS_URL", "not an address", "nats", "nats_url", "not an address"),
        ("RUNNER_DEBUG_REDIS_URL", &format!("redis://{closed}"), "redis", "redis_unreachable", "no answer"),
        ("BUNDLE_STORE_BASE", &format!("http://{closed}/extensions"), "store", "store_unreachable", &closed),
        ("BUNDLE_STORE_BASE", &no_bucket, "store", "no_bucket", "nowhere"),
        ("BUNDLE_STORE_BASE", "extensions", "store", "store_settings", "BUNDLE_STORE_BASE"),
        ("S3_ACCESS_KEY", "wrong", "store", "store_refused", "403"),
        ("LONGSHORE_ADMIN_TOKEN", "another-token-of-sixteen-letters", "admin", "unauthorized", "token"),
        ("LONGSHORE_ADMIN_URL", &format!("http://{closed}"), "admin", "unreachable", &closed),
        ("LONGSHORE_GATEWAY_URL", &format!("http://{closed}"), "gateway", "gateway_unreachable", &closed),
    ] {
        let before = match name {
            "NATS_PASSWORD" => stack.nats.password("control").to_owned(),
            "NATS_URL" => stack.nats.url(),
            "RUNNER_DEBUG_REDIS_URL" => stack.redis.url(),
            "BUNDLE_STORE_BASE" => base.clone(),
            "S3_ACCESS_KEY" => store::ACCESS_KEY.to_owned(),
            "LONGSHORE_ADMIN_TOKEN" => ADMIN_TOKEN.to_owned(),
            "LONGSHORE_ADMIN_URL" => admin.url(),
            _ => shell.gateway().to_owned(),
        };
        shell.set(name, value);
        wrong(&shell, &[], what, code, words);
        shell.set(name, &before);
    }
    well(&shell, &[], &[]);

    // What breaks by itself, one after another; each is named while the others are still looked at.
    worker.terminate();
    worker.drained(wait::LIMIT).await;
    wait::until("a fleet without workers", wait::LIMIT, async || {
        let fleet = shell.ok(&["pools"]);
        if fleet["pools"] == json!([]) { Ok(()) } else { Err(fleet.to_string()) }
    })
    .await;
    wrong(&shell, &[], "workers", "no_workers", "no worker is heard");
    stack.redis.kill();
    wrong(&shell, &[], "redis", "redis_unreachable", "no answer");
    stack.nats.kill();
    wrong(&shell, &[], "nats", "nats_unreachable", "nobody answers");
    wait::until("a gateway that has noticed", wait::LIMIT, async || {
        let said = shell.longshore(&["doctor"]);
        if lines(&said.json, "gateway_not_ready").is_empty() { Err(said.all) } else { Ok(()) }
    })
    .await;
    wrong(&shell, &[], "gateway", "gateway_not_ready", "readyz says 503");
    gateway.kill();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    shell.set("RUNNER_DOCKER_PORT", &taken.local_addr().unwrap().port().to_string());
    shell.set("LONGSHORE_DEV_S3_PORT", &paths::free_port().to_string());
    wrong(&shell, &[], "gateway", "gateway_unreachable", "nobody answers");
    wrong(&shell, &[], "port", "port_in_use", &taken.local_addr().unwrap().port().to_string());
    let Stack { store, .. } = stack;
    drop(store);
    wrong(&shell, &[], "store", "store_unreachable", &base);
}
