//! `longshore dev --watch`, attached to a `longshore dev` that runs.

use std::path::Path;
use std::time::Duration;

use longshore_tests::process::Process;
use longshore_tests::{Shell, wait};
use serde_json::{Value, json};

use super::text;

const NAME: &str = "com.example.watched";
/// Everything is started, by a build that is not the fastest.
const START: Duration = Duration::from_secs(90);

fn write(project: &Path, version: &str, page: &str) {
    let manifest = json!({
        "name": NAME, "publisher": "Example", "version": version, "runtime": "wasm-js@1",
        "ui": { "type": "iframe", "entry": "ui/index.html", "hooks": { "appMenu": { "label": "Watched" } } },
    });
    std::fs::create_dir_all(project.join("ui")).unwrap();
    std::fs::write(project.join("manifest.json"), manifest.to_string()).unwrap();
    std::fs::write(project.join("ui/index.html"), format!("<!doctype html><title>{page}</title>")).unwrap();
}

/// Asks until another bundle is in force than `before`; its hash.
async fn live(shell: &Shell, before: &str) -> String {
    wait::until("another bundle", wait::LIMIT, async || {
        let said = shell.longshore(&["show", NAME]);
        let hash = said.json.pointer("/version/content_hash").and_then(Value::as_str).unwrap_or_default();
        if hash.is_empty() || hash == before { Err(said.all) } else { Ok(hash.to_owned()) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_page_is_live_and_a_broken_one_leaves_the_last_that_worked() {
    let mut shell = Shell::without_fleet();
    let (data, project) = (shell.folder().join("data"), shell.folder().join("project"));
    shell.set("LONGSHORE_DEV_DATA", data.to_str().unwrap());
    write(&project, "1.0.0", "First");
    let none = shell.longshore(&["list"]);
    assert_eq!(none.failure(), (6, "no_token"), "nothing runs: {}", none.all);

    let dev = ["dev", "--ports", "auto", "--workers", "1", "--examples", "no-examples"];
    let mut session = Process::start("dev", &mut shell.command(&dev));
    let lines = session.lines().clone();
    let gateway = lines
        .wait("the address of the gateway", START, |line| {
            let rest = line.strip_prefix("Longshore answers on ")?;
            Some(rest.split(". ").next()?.to_owned())
        })
        .await;
    shell.at_gateway(&gateway);
    let mut watching = Process::start("watch", &mut shell.command(&["dev", "--watch", "project"]));
    let said = watching.lines().clone();
    said.wait("the attachment", wait::LIMIT, |line| line.contains("Attached to the").then_some(())).await;
    let first = live(&shell, "").await;

    let page = async |hash: &str, tenant: &str| {
        let shown = shell.ok(&["show", NAME]);
        let at = format!("/ext-ui/{}/{hash}/?tenant={tenant}", text(&shown, "/extension"));
        let (status, head, body) = shell.curl(&[], &at);
        assert_eq!(status, 200, "{head}");
        String::from_utf8(body).unwrap()
    };
    let tenant = text(&shell.ok(&["show", NAME]), "/tenant").to_owned();
    assert!(page(&first, &tenant).await.contains("First"));
    let waiting = async |count: usize| {
        wait::until("the end of a turn", wait::LIMIT, async || {
            let seen = said.with("waiting for a save").len();
            if seen >= count { Ok(()) } else { Err(seen) }
        })
        .await;
    };
    waiting(1).await;
    write(&project, "1.0.0", "Second");
    let second = live(&shell, &first).await;
    assert!(page(&second, &tenant).await.contains("Second"));
    assert!(said.with("ms after the build's end").len() >= 2, "{:#?}", said.all());

    waiting(2).await;
    std::fs::write(project.join("manifest.json"), "{ \"name\": }").unwrap();
    said.wait("what is wrong", wait::LIMIT, |line| line.contains("not installed").then_some(())).await;
    waiting(3).await;
    assert_eq!(text(&shell.ok(&["show", NAME]), "/version/content_hash"), second);
    write(&project, "1.1.0", "Third");
    let third = live(&shell, &second).await;
    assert_eq!(text(&shell.ok(&["show", NAME]), "/version/version"), "1.1.0");
    assert!(page(&third, &tenant).await.contains("Third"));

    // Its end is not the session's.
    watching.terminate();
    assert_eq!(watching.wait(wait::LIMIT).await.code(), Some(0));
    assert_eq!(shell.ok(&["list"])["installs"].as_array().unwrap().len(), 1);
    session.terminate();
    session.wait(wait::LIMIT).await;
    let gone = shell.longshore(&["list"]);
    assert!(gone.code != 0, "{}", gone.all);
}
