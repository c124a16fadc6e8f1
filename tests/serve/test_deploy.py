"""The files in deploy/ are well formed, agree with one another and keep what they promise."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions: name and rest, lines joined and comments left out."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(name, rest.strip()) for name, _, rest in (line.strip().partition(" ") for line in lines)]


def read(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def test_the_image_is_slim_and_has_no_rights():
    """Both stages are slim, torch is not installed, and what runs is a user without rights, never root."""
    found = instructions()
    assert {rest.split()[0] for name, rest in found if name == "FROM"} == {"python:3.12-slim"}
    assert not [rest for _, rest in found if re.search(r"torch|\[train|\[dev|curl|wget", rest)]
    assert [rest for name, rest in found if name == "USER"] == ["10001:10001"]
    assert found.index(("USER", "10001:10001")) < [name for name, _ in found].index("ENTRYPOINT")


def test_the_image_begins_the_server_with_flags_that_there_are():
    """Entry point and command are exec forms (signals reach the server), and the command line takes them."""
    parts = {
        name: json.loads(rest) for name, rest in instructions() if name in ("ENTRYPOINT", "CMD") and rest[0] == "["
    }
    words = [*parts["ENTRYPOINT"], *parts["CMD"]]
    assert words[:2] == ["bertsmith", "serve"]
    copied = [rest.split()[-1] for name, rest in instructions() if name == "COPY"]
    assert words[2] in copied
    assert words[words.index("--host") + 1] == "0.0.0.0"
    assert "--no-auth" not in words
    assert "--api-key-file" in words


def test_compose_writes_nothing_and_shows_nothing_to_the_network():
    """The server's file system is read-only, it has no rights, and both ports are this machine's alone."""
    (compose,) = read("compose.yaml")
    server, prometheus = compose["services"]["bertsmith"], compose["services"]["prometheus"]
    assert (server["read_only"], server["cap_drop"], server["tmpfs"]) == (True, ["ALL"], ["/tmp"])
    assert server["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for each in (server, prometheus) for port in each["ports"])
    assert server["build"]["dockerfile"] == "deploy/Dockerfile"
    assert (DEPLOY / server["build"]["context"] / server["build"]["dockerfile"]).is_file()
    # A folder: a changed file is a new one, which a mounted file would not show.
    assert [mount.split(":", 1)[1] for mount in server["volumes"]] == [f"{Path(server['command'][1]).parent}:ro"]


def test_all_three_ways_name_the_same_file_of_keys():
    """The image's own command, the compose file and Kubernetes read the keys from one place."""
    (compose,), (deployment, _) = read("compose.yaml"), read("kubernetes.yaml")
    (image,) = [json.loads(rest) for name, rest in instructions() if name == "CMD" and rest[0] == "["]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert image[:2] == compose["services"]["bertsmith"]["command"][:2] == container["args"][:2]


def test_what_is_secret_is_neither_kept_nor_built_in():
    """Git and the image's build pass over the folder of the keys and the key of Prometheus."""
    built = (DEPLOY.parent / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = (DEPLOY.parent / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"deploy/keys", "**/*.key"} <= set(built)
    assert {"keys.toml", "*.key"} <= set(kept)
    assert "*" in (DEPLOY / "keys" / ".gitignore").read_text(encoding="utf-8").splitlines()
    sources = [rest.split()[:-1] for name, rest in instructions() if name == "COPY" and not rest.startswith("--from")]
    taken = [each for row in sources for each in row if "$" not in each]
    assert taken == ["pyproject.toml", "constraints.txt", "README.md", "LICENSE", "src"]
    assert all((DEPLOY.parent / each).exists() and each not in built for each in taken)


def test_prometheus_reads_the_server_of_the_compose_file():
    """The target is the service and its port, and the key's file is one that compose puts there."""
    (settings,), (compose,) = read("prometheus.yml"), read("compose.yaml")
    (job,) = settings["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["bertsmith:8000"]}]
    assert job["metrics_path"] == "/metrics"
    mounts = [mount.split(":")[1] for mount in compose["services"]["prometheus"]["volumes"]]
    assert job["authorization"]["credentials_file"] in mounts
    assert "/etc/prometheus/prometheus.yml" in mounts


def test_kubernetes_keeps_to_the_restricted_profile():
    """Not root, read-only, no rights; probes ask the routes that need no key; the keys' file is mounted."""
    deployment, service = read("kubernetes.yaml")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    probes = [container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert probes == ["/health/ready", "/health/ready", "/health/live"]
    mounts = {each["mountPath"] for each in container["volumeMounts"]}
    assert str(Path(container["args"][1]).parent) in mounts
    assert {each["name"] for each in pod["volumes"]} == {each["name"] for each in container["volumeMounts"]}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == labels


def test_there_is_time_to_finish():
    """The orchestrators wait longer than the server's own grace time, after which it leaves by itself."""
    from bertsmith.serve.settings import ServeSettings

    grace = ServeSettings(runs=(Path("a"),)).grace_s
    (compose,), (deployment, _) = read("compose.yaml"), read("kubernetes.yaml")
    pod = deployment["spec"]["template"]["spec"]
    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > grace + pause
    assert float(compose["services"]["bertsmith"]["stop_grace_period"].removesuffix("s")) > grace


def test_no_deployed_file_holds_a_secret():
    """Keys are made by commands; the files name where they lie."""
    for path in DEPLOY.iterdir():
        if path.suffix in (".yaml", ".yml") or path.name == "Dockerfile":
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"bertsmith_[\w-]{20,}|[0-9a-f]{64}", text), path.name
