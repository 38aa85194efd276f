"""Builds the guests that are committed as components: tests/guests/built/*.wasm and examples/*-rust/dist/main.wasm.

    scripts/build-guests.sh            build all, write tests/guests/built/SOURCES.sha256
    scripts/build-guests.sh --check    compare sources and artifacts with that file; needs no wasm toolchain
    scripts/build-guests.sh --list     print the artifacts' paths

The compiler is rustup's where its toolchain has the target wasm32-unknown-unknown (`rustup target add wasm32-unknown-unknown`). Otherwise it is
Debian's `rustc-web cargo-web rust-web-src lld`, which ship the standard library as source: it is built along, for which that compiler must be told
to accept unstable options. The two give different bytes; so the check compares digests of the sources, and rebuilds are never compared.
"""

import argparse
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
GUESTS = ROOT / "tests" / "guests"
BUILT = GUESTS / "built"
EXAMPLES = ROOT / "examples"
# A workspace of its own, because a new user copies it.
HELLO = EXAMPLES / "hello-rust"
DIGESTS = BUILT / "SOURCES.sha256"
TARGET_DIR = GUESTS / "target"
TRIPLE = "wasm32-unknown-unknown"
# A committed guest above this is no longer a small fixture: something dragged in a library. The largest, `driver`, has 155 kB: it knows
# every function and record of the interface, both ways, and a JSON parser.
SIZE_LIMIT = 200_000
# Debian puts its compiler here; rustup's shims stand before it on the PATH of whoever has both.
DEBIAN = pathlib.Path("/usr/bin")


class Problem(Exception):
    """Something the user has to mend; the text says how."""


# Packages whose examples are guests, each with the folders of WIT that it shares with others.
PACKAGES = {"behaviours": ["kit", "wit"], "http": ["wit"], "shapes": []}
# Packages that are one guest.
SINGLE = {"no-handler": ["wit"], "http-async": []}


def guests():
    """Artifact -> the files of its package that this artifact is made of."""
    found = {}
    for package in PACKAGES:
        folder = GUESTS / package
        examples = tomllib.loads((folder / "Cargo.toml").read_text())["example"]
        shared = [folder / "Cargo.toml", folder / "lib.rs"] + (files(folder / "wit") if (folder / "wit").is_dir() else [])
        for example in examples:
            found[BUILT / f"{example['name']}.wasm"] = [folder / example["path"], *shared]
        for module in folder.glob("*.wat"):
            found[BUILT / f"{module.stem}.wasm"] = [module]
    for package in SINGLE:
        found[BUILT / f"{package}.wasm"] = files(GUESTS / package)
    return dict(sorted(found.items()))


def examples():
    """The folders of the Rust examples that share a workspace."""
    return sorted(manifest.parent for manifest in EXAMPLES.glob("*-rust/Cargo.toml") if manifest.parent != HELLO)


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".rs", ".toml", ".wit", ".wat", ".lock")]


def sources():
    """Artifact -> every file it is made of."""
    wit = files(ROOT / "proto" / "wit")
    common = wit + [GUESTS / "Cargo.toml", GUESTS / "Cargo.lock"]
    found = {}
    for artifact, own in guests().items():
        package = own[0].relative_to(GUESTS).parts[0]
        folders = (PACKAGES | SINGLE)[package]
        found[artifact] = own + common + [path for folder in folders for path in files(GUESTS / folder)]
    found[HELLO / "dist" / "main.wasm"] = wit + files(HELLO / "src") + [HELLO / "Cargo.toml", HELLO / "Cargo.lock"]
    workspace = [EXAMPLES / "Cargo.toml", EXAMPLES / "Cargo.lock", *files(EXAMPLES / "config-wit")]
    for example in examples():
        found[example / "dist" / "main.wasm"] = wit + files(example / "src") + [example / "Cargo.toml"] + workspace
    return found


def digest_of_file(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest_of_sources(paths):
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(f"{digest_of_file(path)}  {path.relative_to(ROOT).as_posix()}\n".encode())
    return total.hexdigest()


def check():
    """What differs between sources, artifacts and the recorded digests; empty when all fits."""
    recorded = {}
    if DIGESTS.exists():
        for line in DIGESTS.read_text().splitlines():
            if line and not line.startswith("#"):
                of_sources, of_artifact, name = line.split()
                recorded[name] = (of_sources, of_artifact)
    table = (GUESTS / "README.md").read_text()
    complaints = []
    for artifact, made_of in sources().items():
        name = artifact.relative_to(ROOT).as_posix()
        of_sources, of_artifact = recorded.pop(name, (None, None))
        missing = [path.relative_to(ROOT).as_posix() for path in made_of if not path.exists()]
        if missing:
            complaints.append(f"{name}: sources are missing: {', '.join(missing)}")
        elif not artifact.exists():
            complaints.append(f"{name}: has not been built")
        elif of_sources != digest_of_sources(made_of):
            complaints.append(f"{name}: its sources have changed since it was built")
        elif of_artifact != digest_of_file(artifact):
            complaints.append(f"{name}: is not the artifact that was built from its sources")
        elif artifact.parent == BUILT and artifact.stat().st_size > SIZE_LIMIT:
            complaints.append(f"{name}: {artifact.stat().st_size} bytes, the limit is {SIZE_LIMIT}")
        if artifact.parent == BUILT and f"| `{artifact.stem}` |" not in table:
            complaints.append(f"{name}: tests/guests/README.md has no row for it")
    complaints += [f"{name}: is recorded but is no guest" for name in recorded]
    known = set(sources())
    complaints += [f"{path.relative_to(ROOT).as_posix()}: is no guest's artifact" for path in BUILT.glob("*.wasm") if path not in known]
    return complaints


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def rustup_has_target():
    if not shutil.which("rustc"):
        return False
    try:
        return pathlib.Path(output("rustc", "--print", "target-libdir", "--target", TRIPLE)).is_dir()
    except subprocess.CalledProcessError:
        return False


def toolchain():
    """(cargo command, its environment, extra arguments, compiler flags) of the first toolchain that can build for wasm."""
    environment = {name: value for name, value in os.environ.items() if name not in ("RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR")}
    if rustup_has_target():
        sysroot = output("rustc", "--print", "sysroot")
        return "cargo", environment, [], [f"--remap-path-prefix={sysroot}=/rust"]
    needed = [DEBIAN / "rustc", DEBIAN / "cargo", DEBIAN / "wasm-ld"]
    if not all(tool.exists() for tool in needed):
        raise Problem(
            f"no compiler for {TRIPLE}: run `rustup target add {TRIPLE}`, or on Debian `apt-get install rustc-web cargo-web rust-web-src lld`"
        )
    version = re.match(r"rustc (\S+)", output(str(DEBIAN / "rustc"), "--version")).group(1)
    library = pathlib.Path(f"/usr/src/rustc-{version}/library")
    if not library.is_dir():
        raise Problem(f"{library} is missing: `apt-get install rust-web-src`")
    environment |= {
        "PATH": f"{DEBIAN}:{environment.get('PATH', '')}",
        "RUSTC": str(DEBIAN / "rustc"),
        "RUSTC_BOOTSTRAP": "1",
        "__CARGO_TESTS_ONLY_SRC_ROOT": str(library),
    }
    environment.pop("RUSTUP_TOOLCHAIN", None)
    flags = ["-Clinker=wasm-ld", "-Clinker-flavor=wasm-ld", f"--remap-path-prefix=/usr/src/rustc-{version}=/rust"]
    return str(DEBIAN / "cargo"), environment, ["-Zbuild-std=std,panic_abort"], flags


def remap():
    """Panic messages name files: keep the builder's folders out of what is committed."""
    home = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
    registries = sorted((home / "registry" / "src").glob("*"))
    return [f"--remap-path-prefix={ROOT}=/longshore"] + [f"--remap-path-prefix={registry}=/crates" for registry in registries]


def build():
    cargo, environment, arguments, flags = toolchain()
    print(f"building with {cargo} ({output(environment.get('RUSTC', 'rustc'), '--version')})")
    # Fetch first: the remapping below must know the folder that cargo unpacks crates into.
    for workspace in (GUESTS, HELLO, EXAMPLES):
        subprocess.run(["cargo", "fetch", "--locked", "--manifest-path", workspace / "Cargo.toml"], check=True, cwd=ROOT)
    environment["CARGO_ENCODED_RUSTFLAGS"] = "\x1f".join(flags + remap())
    common = ["build", "--release", "--locked", "--target", TRIPLE, "--target-dir", TARGET_DIR, *arguments]
    for package in [["-p", name, "--examples"] for name in PACKAGES] + [["-p", name] for name in SINGLE]:
        subprocess.run([cargo, *common, *package, "--manifest-path", GUESTS / "Cargo.toml"], check=True, env=environment, cwd=GUESTS)
    for workspace in (HELLO, EXAMPLES):
        subprocess.run([cargo, *common, "--manifest-path", workspace / "Cargo.toml"], check=True, env=environment, cwd=workspace)

    tool = ["cargo", "build", "--locked", "-p", "componentize", "--target-dir", TARGET_DIR, "--manifest-path", GUESTS / "Cargo.toml"]
    subprocess.run(tool, check=True, cwd=ROOT)
    componentize = TARGET_DIR / "debug" / "componentize"
    modules = TARGET_DIR / TRIPLE / "release"
    BUILT.mkdir(exist_ok=True)
    for old in BUILT.glob("*.wasm"):
        old.unlink()
    for artifact, own in guests().items():
        if own[0].suffix == ".wat":
            subprocess.run([componentize, own[0], artifact, "runner", ROOT / "proto" / "wit"], check=True)
        elif artifact.stem in SINGLE:
            subprocess.run([componentize, modules / f"{artifact.stem.replace('-', '_')}.wasm", artifact], check=True)
        else:
            subprocess.run([componentize, modules / "examples" / f"{artifact.stem.replace('-', '_')}.wasm", artifact], check=True)
    for example in (HELLO, *examples()):
        (example / "dist").mkdir(exist_ok=True)
        module = modules / f"{example.name.replace('-', '_')}.wasm"
        subprocess.run([componentize, module, example / "dist" / "main.wasm"], check=True)
    record()


def record():
    lines = ["# written by scripts/build-guests.sh: digest of the sources, digest of the artifact, artifact"]
    for artifact, made_of in sources().items():
        lines.append(f"{digest_of_sources(made_of)} {digest_of_file(artifact)} {artifact.relative_to(ROOT).as_posix()}")
    DIGESTS.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="only compare sources and artifacts")
    mode.add_argument("--list", action="store_true", help="only print the artifacts' paths")
    options = parser.parse_args()
    if options.list:
        print("\n".join(artifact.relative_to(ROOT).as_posix() for artifact in sources()))
        return 0
    if not options.check:
        try:
            build()
        except Problem as problem:
            print(problem, file=sys.stderr)
            return 1
        except subprocess.CalledProcessError as failure:
            print(f"failed: {' '.join(map(str, failure.cmd))}", file=sys.stderr)
            return 1
    complaints = check()
    if complaints:
        print("\n".join(complaints), file=sys.stderr)
        print("build them anew with scripts/build-guests.sh", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
