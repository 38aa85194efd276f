//! Where programs, guests and examples are.

use std::path::{Path, PathBuf};

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A program of this workspace, beside the running test. `cargo build --workspace` makes it; `make test` does that first.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/debug/deps/e2e-0123456789abcdef
    let path = test.ancestors().nth(2).unwrap().join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build --workspace` (or `make test`) first",
        path.display()
    );
    path
}

/// A server that is not of this workspace: named by `variable`, in the project's `.venv`, or on PATH.
pub fn server(name: &str, variable: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()) {
        return path.into();
    }
    let project = repository().join(".venv/bin").join(name);
    let search = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&search).map(|dir| dir.join(name)).chain([project]).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is neither on PATH nor in .venv/bin nor in {variable}: `make setup` installs it")
    })
}

/// The component of a guest made for tests (`tests/guests`).
pub fn guest(name: &str) -> Vec<u8> {
    read(&repository().join(format!("tests/guests/built/{name}.wasm")))
}

/// The component of an example that is committed.
pub fn example(name: &str) -> PathBuf {
    repository().join("examples").join(name)
}

/// A file's bytes.
pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A port that was free a moment ago, for what cannot tell which one it took.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
