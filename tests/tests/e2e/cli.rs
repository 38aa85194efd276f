//! The command line against a real fleet.

mod doctor;
mod watch;

use std::time::Duration;

use longshore_tests::{Shell, Stack, store, wait};
use serde_json::{Value, json};

const NAME: &str = "com.longshore.test.echo";
const DAY: Duration = Duration::from_secs(86_400);

fn echo(version: &str) -> Vec<u8> {
    store::extension("echo", "echo", version, &["cap:log.emit"], &["GET /"])
}

/// Writes a bundle into the shell's folder; its name.
fn file(shell: &Shell, name: &str, archive: &[u8]) -> String {
    std::fs::write(shell.folder().join(name), archive).unwrap();
    name.to_owned()
}

fn text<'j>(json: &'j Value, pointer: &str) -> &'j str {
    json.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} in {json:#}"))
}

fn keys(json: &Value) -> Vec<&str> {
    json.as_object().unwrap_or_else(|| panic!("no object: {json:#}")).keys().map(String::as_str).collect()
}

/// A token for the shell's callers.
fn log_in(shell: &mut Shell, tenant: &str) {
    let token = shell.ok(&["token", "create", "--access", "write", "--tenant", tenant]);
    shell.set("LONGSHORE_TOKEN", text(&token, "/secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_moves_to_another_tenant_with_its_signature_and_each_keeps_its_own() {
    let keys = Shell::without_fleet();
    keys.ok(&["keygen", "--key-id", "release", "--publisher", "Longshore"]);
    let trust = keys.folder().join("release.pub.pem");
    let settings =
        [("SIGNING_TRUST_BUNDLE", trust.to_str().unwrap()), ("LONGSHORE_SIGNATURE_POLICY", "require")];
    let stack = Stack::start().await;
    let admin = stack.admin(&settings).await;
    let (_worker, gateway) = tokio::join!(stack.worker(&settings), stack.gateway(&[]));
    let mut shell = Shell::new(&admin, &gateway, "old");
    let bundle = file(&shell, "echo.tar.zst", &echo("1.0.0"));
    let refused = shell.longshore(&["install", &bundle, "--grant-all"]);
    assert_eq!(refused.failure(), (6, "signature_refused"), "{}", refused.all);

    let key = keys.folder().join("release.key.pem");
    shell.ok(&["sign", &bundle, "--key", key.to_str().unwrap()]);
    let installed = shell.ok(&["install", &bundle, "--grant-all"]);
    assert_eq!(text(&installed, "/install/version/signed_by"), "release");
    let (hash, extension) =
        (text(&installed, "/install/version/content_hash"), text(&installed, "/install/extension"));

    // Nobody has uploaded it for the new tenant, and only the old one's has the signature that this fleet requires.
    let command = ["install", hash, "--extension", extension, "--grant-all", "--tenant", "new"];
    assert_eq!(shell.longshore(&command).failure(), (3, "bundle_not_found"));
    let nowhere = shell.longshore(&[&command[..], &["--move-from", "nobody"]].concat());
    assert_eq!(nowhere.failure(), (3, "bundle_not_found"));
    let moved = shell.ok(&[&command[..], &["--move-from", "old"]].concat());
    assert_eq!(text(&moved, "/install/version/signed_by"), "release");
    assert_eq!(text(&moved, "/install/tenant"), "new");
    assert_ne!(moved["install"]["install_id"], installed["install"]["install_id"]);
    assert_eq!(shell.ok(&["list"])["installs"].as_array().unwrap().len(), 1, "the old tenant keeps its own");

    // What the old one leaves behind is its own alone.
    let plain = shell.ok(&["uninstall", NAME]);
    assert_eq!((&plain["removed"]["installs"], &plain["removed"]["bundle_objects"]), (&json!(1), &json!(0)));
    shell.ok(&["install", hash, "--extension", extension, "--grant-all"]);
    let purged = shell.ok(&["uninstall", NAME, "--purge"]);
    assert!(purged["removed"]["bundle_objects"].as_u64() >= Some(2), "{purged:#}");
    assert_eq!(shell.longshore(&command[..5]).failure(), (3, "bundle_not_found"));
    let again = shell.longshore(&["uninstall", NAME, "--purge"]);
    assert_eq!(again.failure(), (3, "install_not_found"));
    assert!(again.all.contains("it is installed for tenant new"), "{}", again.all);
    log_in(&mut shell, "new");
    let called = shell.ok(&["call", NAME]);
    assert_eq!(called["status"], 200, "{called:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_tenant_is_printed_and_another_keeps_everything() {
    let (stack, admin, [_worker], gateway) = Stack::standalone(&[], &[]).await;
    let mut shell = Shell::new(&admin, &gateway, "gone");
    let bundle = file(&shell, "echo.tar.zst", &echo("1.0.0"));
    std::fs::write(shell.folder().join("secret"), "value").unwrap();
    let mut hashes = Vec::new();
    for tenant in ["gone", "stays", "gone-too"] {
        let installed =
            shell.ok(&["install", &bundle, "--grant-all", "--secret", "api=@secret", "--tenant", tenant]);
        hashes.push(text(&installed, "/install/version/content_hash").to_owned());
        log_in(&mut shell, tenant);
    }
    for confirm in ["stays", "GONE", "gone-too", ""] {
        let refused = shell.longshore(&["tenant", "purge", "gone", "--confirm", confirm]);
        assert_eq!(refused.code, 2, "{confirm}: {}", refused.all);
    }
    assert_eq!(shell.ok(&["list"])["installs"].as_array().unwrap().len(), 1);
    let refused = shell.longshore(&["tenant", "purge", "gone"]);
    assert_eq!(refused.code, 2, "{}", refused.all);

    let purged = shell.plain(&["tenant", "purge", "gone", "--confirm", "gone"]);
    assert_eq!(purged.code, 0, "{}", purged.all);
    for part in ["tenant gone: removed", "1 installs", "1 secrets", "1 tokens", "bundle objects"] {
        assert!(purged.stdout.contains(part), "{part}: {}", purged.stdout);
    }
    let again = shell.ok(&["tenant", "purge", "gone", "--confirm", "gone"]);
    assert_eq!(keys(&again), ["left", "removed", "tenant"]);
    assert!(again["removed"].as_object().unwrap().values().all(|count| *count == json!(0)), "{again:#}");
    let folder = stack.store.folder("gone");
    assert!(!holds_files(&folder), "{}", folder.display());

    // Tenants whose names begin alike are others.
    for tenant in ["stays", "gone-too"] {
        assert_eq!(shell.ok(&["list", "--tenant", tenant])["installs"].as_array().unwrap().len(), 1);
        assert_eq!(shell.ok(&["token", "list", "--tenant", tenant])["tokens"].as_array().unwrap().len(), 1);
        assert_eq!(shell.ok(&["show", NAME, "--tenant", tenant])["secret_names"], json!(["api"]));
    }
    assert_eq!(shell.ok(&["call", NAME])["status"], 200, "the token of gone-too");
    assert_eq!(hashes[0], hashes[2]);
}

fn holds_files(folder: &std::path::Path) -> bool {
    std::fs::read_dir(folder)
        .is_ok_and(|all| all.flatten().any(|entry| entry.path().is_file() || holds_files(&entry.path())))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_collection_removes_what_nobody_can_use_and_keeps_what_a_rollback_needs() {
    let (stack, admin, [_worker], gateway) = Stack::standalone(&[], &[]).await;
    let mut shell = Shell::new(&admin, &gateway, "tenant-1");
    let mut installs = Vec::new();
    for version in ["1.0.0", "2.0.0"] {
        let bundle = file(&shell, "echo.tar.zst", &echo(version));
        installs.push(shell.ok(&["install", &bundle, "--grant-all"]));
    }
    let extension = text(&installs[0], "/install/extension").to_owned();
    let old = stack.store.upload("tenant-1", &extension, &echo("0.1.0"));
    let young = stack.store.upload("tenant-1", &extension, &echo("0.2.0"));
    // Of a tenant that has no install here: another platform's, which shares the store.
    let foreign = stack.store.upload("elsewhere", &extension, &echo("0.1.0"));
    stack.store.make_older("elsewhere", 40 * DAY);
    stack.store.make_older("tenant-1", 40 * DAY);
    stack.store.put("tenant-1", &extension, young, &echo("0.2.0"));

    let would = shell.ok(&["gc", "--dry-run"]);
    assert_eq!(keys(&would), ["dry_run", "keys", "left", "more", "removed", "seen"]);
    let named = |json: &Value, hash: &str| json["keys"].to_string().contains(hash);
    let in_force: Vec<&str> = installs
        .iter()
        .map(|install| text(install, "/install/version/content_hash").trim_start_matches("sha256:"))
        .collect();
    assert_eq!(would["dry_run"], true);
    assert!(named(&would, &old.hex()) && !named(&would, &young.hex()), "{would:#}");
    assert!(in_force.iter().all(|hash| !named(&would, hash)), "{would:#}");
    let key = |hash: &str| format!("{extension}/sha256/{hash}/bundle.tar.zst");
    let is_there = |hash: &str| stack.store.folder("tenant-1").join("extensions").join(key(hash)).is_file();
    assert!(is_there(&old.hex()), "a dry run removes nothing");

    let people = shell.plain(&["gc"]);
    assert_eq!(people.code, 0, "{}", people.all);
    assert!(people.stdout.contains(&old.hex()) && people.stdout.contains("looked at"), "{}", people.stdout);
    assert!(!is_there(&old.hex()) && is_there(&young.hex()));
    assert!(stack.store.path("elsewhere", &extension, foreign).is_file(), "nobody here knows who calls it");
    let nothing = shell.ok(&["gc"]);
    assert_eq!((&nothing["keys"], &nothing["removed"]["bundle_objects"]), (&json!([]), &json!(0)));

    let back = shell.ok(&["rollback", NAME]);
    assert_eq!((&back["outcome"], text(&back, "/install/version/version")), (&json!("rolled_back"), "1.0.0"));
    log_in(&mut shell, "tenant-1");
    assert_eq!(shell.ok(&["call", NAME])["status"], 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_prints_the_document_that_programs_read() {
    let patient = [("EXT_GATEWAY_TIMEOUT_MS", "300000")];
    let (_stack, admin, [_worker], gateway) = Stack::standalone(&[], &patient).await;
    let mut shell = Shell::new(&admin, &gateway, "tenant-1");
    let sleep = store::extension("sleep", "sleep", "1.0.0", &[], &["GET /"]);
    let bundle = file(&shell, "sleep.tar.zst", &sleep);
    for tenant in ["tenant-1", "tenant-2"] {
        let limit = ["--limit", "timeout_ms=300000"];
        shell.ok(&[&["install", &bundle, "--grant-all", "--tenant", tenant][..], &limit].concat());
    }
    let name = "com.longshore.test.sleep";

    let mine = shell.ok(&["list"]);
    let all = shell.ok(&["list", "--all-tenants"]);
    let tenants = |json: &Value| {
        let mut tenants: Vec<_> =
            json["installs"].as_array().unwrap().iter().map(|i| text(i, "/tenant").to_owned()).collect();
        tenants.sort();
        tenants
    };
    assert_eq!(tenants(&mine), ["tenant-1"]);
    assert_eq!(tenants(&all), ["tenant-1", "tenant-2"]);
    let shown = shell.ok(&["show", name]);
    for key in [
        "install_id",
        "tenant",
        "extension",
        "name",
        "slug",
        "enabled",
        "version",
        "granted",
        "limits",
        "pool",
    ] {
        assert!(shown.get(key).is_some(), "{key}: {shown:#}");
    }
    assert_eq!(shown["limits"]["timeout_ms"], 300_000);
    for reference in ["/install_id", "/extension", "/slug"] {
        assert_eq!(shell.ok(&["show", text(&shown, reference)])["install_id"], shown["install_id"]);
    }
    for (command, enabled) in [("disable", false), ("enable", true)] {
        let changed = shell.ok(&[command, name]);
        assert_eq!(
            (&changed["outcome"], &changed["install"]["enabled"]),
            (&json!("updated"), &json!(enabled))
        );
        assert_eq!(shell.ok(&[command, name])["outcome"], "unchanged");
    }
    let fleet = shell.ok(&["pools"]);
    assert_eq!(keys(&fleet), ["listening_ms", "pools", "shims"]);
    assert_eq!(text(&fleet, "/pools/0/name"), "default");
    assert!(fleet.pointer("/pools/0/workers/0/slots").is_some(), "{fleet:#}");
    assert!(shell.plain(&["pools"]).stdout.contains("well"));

    // A call that runs: seen, stopped, and told so to its caller.
    log_in(&mut shell, "tenant-1");
    let mut calling = shell.command(&["call", name, "--path", "/?ms=250000", "--json"]);
    let calling = calling.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let running = wait::until("a call that runs", wait::LIMIT, async || {
        let list = shell.ok(&["calls", "ls", "--tenant", "tenant-1"]);
        match list["calls"].as_array().unwrap().first() {
            Some(call) if call["state"] == "running" => Ok(call.clone()),
            _ => Err(list.to_string()),
        }
    })
    .await;
    assert_eq!(shell.ok(&["calls", "ls", "--tenant", "tenant-2"])["calls"], json!([]));
    let execution = text(&running, "/execution");
    assert!(shell.plain(&["calls", "ls"]).stdout.contains(execution));
    assert_eq!(shell.longshore(&["calls", "cancel"]).code, 2, "nothing is named");
    let cancelled = shell.ok(&["calls", "cancel", execution]);
    assert_eq!((&cancelled["running"], &cancelled["waiting"]), (&json!(1), &json!(0)), "{cancelled:#}");
    let ended = tokio::task::spawn_blocking(move || calling.wait_with_output().unwrap()).await.unwrap();
    let answer: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(answer["status"], 503, "{answer:#}");
    assert!(text(&answer, "/body").contains("cancelled") && !ended.status.success(), "{answer:#}");

    let audit = shell.ok(&["audit", "--tenant", "tenant-1"]);
    let kinds: Vec<&str> =
        audit["events"].as_array().unwrap().iter().map(|event| text(event, "/kind")).collect();
    assert_eq!(
        kinds,
        ["bundle.uploaded", "install.created", "install.disabled", "install.enabled", "token.created"]
    );
    let of_kind = shell.ok(&["audit", "--kind", "install.created", "--since", "1h", "--limit", "1"]);
    let events = of_kind["events"].as_array().unwrap();
    assert!(events.len() == 1 && events[0]["tenant"] == "tenant-2", "the newest: {of_kind:#}");
    assert!(shell.plain(&["audit"]).stdout.contains("calls.cancelled"));
    assert_eq!(shell.longshore(&["audit", "--since", "soon"]).code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_failure_ends_with_its_own_code() {
    let (_stack, mut admin, [_worker], gateway) = Stack::standalone(&[], &[]).await;
    let mut shell = Shell::new(&admin, &gateway, "tenant-1");
    let asking = store::extension("echo", "echo", "1.0.0", &["cap:http.fetch"], &["GET /"]);
    let bundle = file(&shell, "echo.tar.zst", &asking);
    let broken = file(&shell, "broken.tar.zst", b"no archive");
    let ungranted = shell.longshore(&["install", &bundle]);
    assert_eq!(ungranted.failure(), (6, "grant_required"));
    assert!(ungranted.all.contains("cap:http.fetch") && ungranted.all.contains("--grant-all"));
    shell.ok(&["install", &bundle, "--grant", "cap:http.fetch"]);
    let unknown = "ab".repeat(32);
    let id = "00000000-0000-4000-8000-000000000000";
    for (args, expected) in [
        (&["rollback", NAME][..], (1, "no_previous_version")),
        (&["list", "--tenant", "a/b"], (2, "usage")),
        (&["show", "com.example.none"], (3, "install_not_found")),
        (&["uninstall", "com.example.none"], (3, "install_not_found")),
        (&["disable", "com.example.none"], (3, "install_not_found")),
        (&["install", "no-such-file"], (3, "no_source")),
        (&["install", &unknown, "--extension", id, "--grant-all"], (3, "bundle_not_found")),
        (&["install", &broken, "--grant-all"], (5, "invalid_bundle")),
        (&["install", &bundle, "--grant", "cap:storage.kv"], (6, "grant_not_requested")),
    ] {
        let said = shell.longshore(args);
        assert_eq!(said.failure(), expected, "{args:?}: {}", said.all);
    }
    // The gateway's answers are results, whose status decides.
    shell.set("LONGSHORE_TOKEN", "lst_none_of_ours");
    assert_eq!(shell.longshore(&["call", NAME]).code, 6, "a wrong token");
    log_in(&mut shell, "tenant-1");
    assert_eq!(shell.longshore(&["call", NAME]).code, 0);
    let missed = shell.longshore(&["call", NAME, "--path", "/nowhere"]);
    assert_eq!((missed.code, &missed.json["status"]), (3, &json!(404)), "{}", missed.all);
    assert!(text(&missed.json, "/body").contains("endpoint_not_found"));

    shell.set("LONGSHORE_ADMIN_TOKEN", "another-token-of-sixteen-letters");
    assert_eq!(shell.longshore(&["list"]).failure(), (6, "unauthorized"));
    shell.set("LONGSHORE_ADMIN_TOKEN", longshore_tests::admin::ADMIN_TOKEN);
    assert_eq!(shell.longshore(&["list"]).code, 0);
    admin.service.terminate();
    admin.service.drained(wait::LIMIT).await;
    assert_eq!(shell.longshore(&["list"]).failure(), (4, "unreachable"));
    assert_eq!(shell.longshore(&["nonsense"]).code, 2);
}

#[test]
fn the_completions_of_each_shell_are_read_by_that_shell() {
    let shell = Shell::without_fleet();
    let installed = |name: &str| {
        std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|folder| folder.join(name).is_file())
    };
    for (name, word) in
        [("bash", "COMPREPLY"), ("zsh", "#compdef longshore"), ("fish", "complete -c longshore")]
    {
        let said = shell.plain(&["completions", name]);
        assert!(said.code == 0 && said.stdout.contains(word), "{name}: {}", said.all);
        let path = shell.folder().join(name);
        std::fs::write(&path, &said.stdout).unwrap();
        // Only bash is on every machine that builds this.
        if name == "bash" || installed(name) {
            let read = std::process::Command::new(name).arg("-n").arg(&path).output().unwrap();
            assert!(read.status.success() && read.stderr.is_empty(), "{name}: {read:?}");
        }
    }
    let script = "source ./bash; COMP_WORDS=(longshore tenant p); COMP_CWORD=2; _longshore longshore p tenant; echo ${COMPREPLY[@]}";
    let output =
        std::process::Command::new("bash").args(["-c", script]).current_dir(shell.folder()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "purge", "{output:?}");
}
