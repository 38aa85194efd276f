#!/usr/bin/env python3
"""Checks of the compose files that their JSON schema cannot make. Run by `make test` with .venv's Python (ruamel.yaml is there)."""

import re
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
# RUNNER_X is another spelling of the name on the right; different values stop the start of worker and shim.
ALIASES = {
    "RUNNER_BUNDLE_STORE_BASE": "BUNDLE_STORE_BASE",
    "RUNNER_REGISTRY_BASE_URL": "REGISTRY_BASE_URL",
    "RUNNER_ALGA_AUTH_KEY": "ALGA_AUTH_KEY",
    "RUNNER_STATIC_STRICT_VALIDATION": "EXT_STATIC_STRICT_VALIDATION",
}
mistakes = []


def check(holds, mistake):
    if not holds:
        mistakes.append(mistake)


def load(name):
    return YAML(typ="safe").load(ROOT / name)


def interpolated(text, env):
    """${NAME:-default} and ${NAME}, as compose reads them."""
    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", lambda m: env.get(m[1]) or m[2] or "", str(text))


def env_file(name, with_commented=False):
    """NAME=value lines; with_commented takes `#NAME=value` too, as if the user had uncommented all of them."""
    pattern = re.compile(r"^#?([A-Z][A-Z0-9_]*)=(.*)$" if with_commented else r"^([A-Z][A-Z0-9_]*)=(.*)$")
    return dict(m.groups() for line in (ROOT / name).read_text().splitlines() if (m := pattern.match(line)))


base = load("docker-compose.yml")
services = base["services"]

# The server's passwords are the clients'.
nats_env = services["nats"]["environment"]
for name in sorted(set(re.findall(r"\$(NATS_\w+)", (ROOT / "deploy/nats.conf").read_text().split("\nhost:")[1]))):
    check(name in nats_env, f"docker-compose.yml: deploy/nats.conf needs {name}, which the nats service does not set")
for service, user in (("worker", "worker"), ("gateway-shim", "shim"), ("admin", "control")):
    env = services[service]["environment"]
    check(env["NATS_USER"] == user, f"docker-compose.yml: {service} is not the NATS user {user}")
    check(
        env["NATS_PASSWORD"] == nats_env[f"NATS_{user.upper()}_PASSWORD"],
        f"docker-compose.yml: the NATS password of {service} is not the one the server has for {user}",
    )
    given = set(env) | set(env_file("deploy/compose.env"))
    check(not any(f"NATS_{u}_PASSWORD" in given for u in ("SHIM", "WORKER", "CALLER", "CONTROL", "ADMIN")),
          f"docker-compose.yml: {service} is told another user's NATS password")

# The admin service: reached from this machine alone, with a token that is in no file here and that no other program is told.
admin = services["admin"]
check(
    all(str(port).startswith("127.0.0.1:") for port in admin["ports"]) and admin["ports"],
    f"docker-compose.yml: admin is published to others than this machine: {admin['ports']}",
)
token_file = admin["environment"]["LONGSHORE_ADMIN_TOKEN_FILE"]
folder = token_file.rsplit("/", 1)[0]
volumes = {name: dict(v.split(":")[:2][::-1] for v in service.get("volumes", [])) for name, service in services.items()}
token_volume = volumes["admin"].get(folder)
check(token_volume in base["volumes"], f"docker-compose.yml: {token_file} is in no volume of admin")
check(volumes["secrets-key"].get(folder) == token_volume, f"docker-compose.yml: nobody makes {token_file}")
check(token_file in services["secrets-key"]["command"][-1], f"docker-compose.yml: secrets-key does not write {token_file}")
for name, mounted in volumes.items():
    if name not in ("admin", "secrets-key"):
        check(token_volume not in mounted.values(), f"docker-compose.yml: {name} can read the admin token")
for name in ("deploy/compose.env", ".env.runner.example"):
    check(
        not any(key.startswith("LONGSHORE_ADMIN_TOKEN") for key in env_file(name, True)),
        f"{name} is given to every program, and may set no admin token",
    )
# Pages need a bundle store and a cache folder; the image must have each program that is started.
shim_files = env_file("deploy/compose.env")
check(
    "RUNNER_BUNDLE_STORE_BASE" in shim_files and shim_files["EXT_CACHE_ROOT"] in volumes["gateway-shim"],
    "docker-compose.yml: gateway-shim has no store, or no volume for its cache, and could serve no pages",
)
image = (ROOT / "deploy/Dockerfile").read_text()
for name, service in services.items():
    if service["image"] == "longshore:dev" and name != "secrets-key":
        check(f"--bin {service['command'][0]} " in image, f"deploy/Dockerfile does not build {service['command'][0]}")

# Images do not move under us.
for name, service in services.items():
    image = service["image"]
    check(image == "longshore:dev" or re.search(r":\D*\d+\.\d+\.\d+|:RELEASE\.\d{4}-", image), f"docker-compose.yml: {name}: {image} is not pinned")

# Example settings and defaults agree: with none, with the example as it is, and with every line of it uncommented.
for uncommented in (False, True):
    env = env_file("deploy/compose.env") | env_file(".env.runner.example", uncommented)
    for alias, name in ALIASES.items():
        check(
            alias not in env or name not in env or env[alias] == env[name],
            f".env.runner.example with deploy/compose.env: {alias} and {name} differ",
        )

# The second file: what it includes and extends is there, and one service asks for the shim's port.
dev = load("docker-compose.runner-dev.yml")
included = [path for entry in dev["include"] for path in entry["path"]]
for path in included:
    check((ROOT / path).is_file(), f"docker-compose.runner-dev.yml: {path} is not there")
off = {name for path in included for name, service in load(path)["services"].items() if service.get("profiles")}
runner = dev["services"]["extension-runner"]
origin = runner["extends"]["service"]
check(origin in services and origin in off, f"docker-compose.runner-dev.yml: {origin} would run beside extension-runner")
running = {name: s for name, s in services.items() if name not in off} | {"extension-runner": services[origin] | runner}
for name, service in running.items():
    for needed in service.get("depends_on", {}):
        check(needed in running, f"docker-compose.runner-dev.yml: {name} waits for {needed}, which does not run")
for setting, wanted in (({}, "8085:8080"), ({"RUNNER_DOCKER_PORT": "9085"}, "9085:8080")):
    ports = [interpolated(port, setting) for port in running["extension-runner"]["ports"]]
    check(ports == [wanted], f"docker-compose.runner-dev.yml: extension-runner publishes {ports}, not {wanted}")
container = interpolated(runner["container_name"], {})
check(container == "alga_extension_runner", f"docker-compose.runner-dev.yml: the container is called {container}")

for mistake in mistakes:
    print(mistake, file=sys.stderr)
if not mistakes:
    print("compose files: passwords, pins, settings and the included file agree")
sys.exit(1 if mistakes else 0)
