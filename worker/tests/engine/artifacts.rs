//! Compiled once: in a process, on a machine, over restarts; and never from bytes that somebody else wrote.

use std::path::PathBuf;
use std::sync::Arc;

use longshore_worker::engine::stats::EngineStats;

use crate::support::{Fixture, call, fixture, fixture_with};

fn artifact(fixture: &Fixture) -> PathBuf {
    let folders = std::fs::read_dir(fixture.root.path().join("artifacts")).unwrap();
    folders
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_dir())
        .flat_map(|p| std::fs::read_dir(p).unwrap().map(|e| e.unwrap().path()))
        .find(|p| p.extension().is_some_and(|e| e == "cwasm"))
        .unwrap()
}

async fn after_restart(fixture: &Fixture) -> EngineStats {
    let executor = fixture.restart();
    executor.execute(call("echo", "/").job()).await.result.unwrap();
    executor.stats()
}

#[tokio::test]
async fn a_restart_compiles_nothing() {
    let fixture = fixture();
    fixture.run(call("echo", "/")).await.result.unwrap();
    assert_eq!(fixture.executor.stats().compiles, 1);
    let stats = after_restart(&fixture).await;
    assert_eq!((stats.compiles, stats.artifact_hits, stats.artifacts_refused), (0, 1, 0));
}

#[tokio::test]
async fn an_artifact_that_was_changed_is_refused_and_replaced() {
    let fixture = fixture();
    fixture.run(call("echo", "/")).await.result.unwrap();
    let path = artifact(&fixture);
    let good = std::fs::read(&path).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let mut rehashed = good.clone();
    let end = rehashed.len();
    rehashed[end - 1] ^= 1;
    let longer = [&good[..], b"x"].concat();
    for bad in [flipped, rehashed, good[..good.len() / 2].to_vec(), longer, b"short".to_vec(), Vec::new()] {
        // As an attacker would: another file renamed into its place.
        let beside = path.with_extension("evil");
        std::fs::write(&beside, &bad).unwrap();
        std::fs::rename(&beside, &path).unwrap();
        let stats = after_restart(&fixture).await;
        assert_eq!(stats.compiles, 1);
        assert!(stats.artifacts_refused > 0);
        assert_eq!(std::fs::read(&path).unwrap().len(), good.len());
    }
    assert_eq!(after_restart(&fixture).await.compiles, 0);
}

#[tokio::test]
async fn a_good_artifact_of_another_component_is_refused() {
    let fixture = fixture();
    fixture.run(call("trap", "/?kind=none")).await.result.unwrap();
    let of_trap = std::fs::read(artifact(&fixture)).unwrap();
    std::fs::remove_file(artifact(&fixture)).unwrap();
    fixture.run(call("echo", "/")).await.result.unwrap();
    std::fs::write(artifact(&fixture), of_trap).unwrap();
    let stats = after_restart(&fixture).await;
    assert_eq!(stats.compiles, 1);
    assert!(stats.artifacts_refused > 0);
}

#[tokio::test]
async fn an_artifact_under_another_key_is_refused() {
    let fixture = fixture();
    fixture.run(call("echo", "/")).await.result.unwrap();
    std::fs::write(fixture.root.path().join("artifacts/key"), [9; 32]).unwrap();
    assert_eq!(after_restart(&fixture).await.compiles, 1);
}

#[tokio::test]
async fn a_link_in_the_place_of_an_artifact_is_not_followed() {
    let fixture = fixture();
    fixture.run(call("echo", "/")).await.result.unwrap();
    let path = artifact(&fixture);
    let elsewhere = fixture.root.path().join("elsewhere");
    std::fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert_eq!(after_restart(&fixture).await.compiles, 1);
    assert!(path.symlink_metadata().unwrap().is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_first_calls_in_two_processes_compile_once() {
    let fixture = fixture();
    let other = fixture.restart();
    let runs: Vec<_> = (0..16)
        .map(|i| {
            let executor = Arc::clone(if i % 2 == 0 { &fixture.executor } else { &other });
            tokio::spawn(async move { executor.execute(call("echo", "/").job()).await.result.map(|_| ()) })
        })
        .collect();
    for run in runs {
        run.await.unwrap().unwrap();
    }
    assert_eq!(fixture.executor.stats().compiles + other.stats().compiles, 1);
}

#[tokio::test]
async fn the_folder_stays_within_its_limit_and_what_runs_goes_on() {
    let fixture = fixture_with(|c| c.engine.artifact_bytes = 1);
    for _ in 0..2 {
        fixture.run(call("echo", "/")).await.result.unwrap();
        fixture.run(call("user", "/")).await.result.unwrap();
    }
    let stats = fixture.executor.stats();
    assert_eq!((stats.compiles, stats.artifacts_evicted), (2, 1));
}

#[tokio::test]
async fn without_a_place_for_artifacts_components_run_all_the_same() {
    let fixture = fixture();
    // Nothing can be written under a file.
    let folder = std::fs::read_dir(fixture.root.path().join("artifacts"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.is_dir() && !p.ends_with("locks"))
        .unwrap();
    std::fs::remove_dir(&folder).unwrap();
    std::fs::write(&folder, b"").unwrap();
    fixture.run(call("echo", "/")).await.result.unwrap();
    let stats = fixture.executor.stats();
    assert_eq!((stats.compiles, stats.artifact_write_failures), (1, 1));
}
