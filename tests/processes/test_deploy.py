"""The files of deploy/: what can be known of them without the platforms that they are for."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from actors.cli import invoke
from actors.cli.flags import Flag
from actors.cli.run import run
from actors.ops import system
from actors.ops.health import Health
from actors.plan.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = "1.34.0"  #: whose schemas manifests are held against
#: Kinds that are not of Kubernetes itself.
FOREIGN = {"Kustomization", "ScaledObject", "TriggerAuthentication", "Template"}
#: Variables that are no flag's.
OTHERS = {"CALLBOARD_CONNECTION_FILE", "CALLBOARD_STATE_DIR", "CALLBOARD_RUNTIME_DIR"}
LABEL = "app.kubernetes.io/name"


def documents(*paths: Path) -> list[dict[str, Any]]:
    return [one for path in paths for one in yaml.safe_load_all(path.read_text()) if one]


def template(**given: str) -> list[dict[str, Any]]:
    """The objects of the OpenShift template, as `oc process` makes them."""
    path = DEPLOY / "openshift/template.yaml"
    (whole,) = documents(path)
    values = {one["name"]: one.get("value", "") for one in whole["parameters"]} | given
    text = json.dumps(whole["objects"])
    for name, value in values.items():
        text = text.replace(f'"${{{{{name}}}}}"', value).replace(f"${{{name}}}", value)
    assert "${" not in text, "a parameter that is not declared"
    objects: list[dict[str, Any]] = json.loads(text)
    return objects


MANIFESTS = documents(*sorted((DEPLOY / "kubernetes").glob("*.yaml")))
OPENSHIFT = template(IMAGE="image", CONNECTION="amqp://broker/")
EVERY = [("kubernetes", one) for one in MANIFESTS] + [("openshift", one) for one in OPENSHIFT]
COMPOSE: dict[str, Any] = documents(DEPLOY / "compose.yaml")[0]
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def each(*kinds: str) -> pytest.MarkDecorator:
    chosen = [(place, one) for place, one in EVERY if one["kind"] in (kinds or (one["kind"],))]
    names = [
        f"{place}-{one['kind']}-{one.get('metadata', {}).get('name')}" for place, one in chosen
    ]
    return pytest.mark.parametrize("manifest", [one for _, one in chosen], ids=names)


def pod_of(manifest: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Its specification, and the one container of it."""
    spec = manifest["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return spec, container


def environment_of(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container["env"]}


def unit(path: Path) -> dict[str, list[str]]:
    """The values of [Service], by key; a key may be given several times."""
    values: dict[str, list[str]] = {}
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    parser.read(path)
    assert parser.sections() == ["Unit", "Service", "Install"]
    for line in path.read_text().partition("[Service]")[2].partition("[Install]")[0].splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition("=")
            values.setdefault(key, []).append(value)
    return values


def instruction(name: str) -> list[str]:
    """What follows an instruction of the last stage, each time that it is there."""
    stage = re.split(r"^FROM .*$", DOCKERFILE, flags=re.MULTILINE)[-1].replace("\\\n", " ")
    return re.findall(rf"^\s*{name} (.*)$", stage, re.MULTILINE)


# ── what each promises about its worker ──────────────────────────────────────


def commands() -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """Every command line with its environment: where it is, the words after `callboard`."""
    image = dict(re.findall(r"(CALLBOARD_\w+)=(\S+)", "".join(instruction("ENV"))))
    yield "Dockerfile", json.loads(instruction("CMD")[0]), image
    worker = COMPOSE["services"]["worker"]
    yield "compose", worker["command"], image | worker["environment"]
    for place, one in EVERY:
        if one["kind"] in ("Deployment", "StatefulSet"):
            _, container = pod_of(one)
            yield f"{place} {one['kind']}", container["args"], image | environment_of(container)
    example = dict(re.findall(r"^#   (\w+)=(\S+)$", UNITS[1].read_text(), re.MULTILINE))
    for path in UNITS:
        service = unit(path)
        words = service["ExecStart"][0].replace("${APP}", example["APP"]).replace("%i", "orders")
        given = dict(one.split("=", 1) for one in service["Environment"])
        own = {name: value for name, value in example.items() if name != "APP"}
        yield path.name, shlex.split(words)[1:], given | (own if "@" in path.name else {})


COMMANDS = list(commands())


@pytest.mark.parametrize(
    ("words", "environment"), [one[1:] for one in COMMANDS], ids=[one[0] for one in COMMANDS]
)
def test_a_command_is_one_that_callboard_takes(
    words: list[str],
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = {one.variable for one in run.params if isinstance(one, Flag)} | OTHERS
    for name, value in environment.items():
        if name.startswith("CALLBOARD_"):
            assert name in known
            monkeypatch.setenv(name, value)
    secret = tmp_path / "connection"
    secret.write_text("amqp://callboard:s3cret@rabbitmq:5672/\n")
    monkeypatch.setenv("CALLBOARD_CONNECTION_FILE", str(secret))
    monkeypatch.delenv("CALLBOARD_STATE_DIR", raising=False)
    monkeypatch.syspath_prepend(DEPLOY / "app")
    monkeypatch.chdir(DEPLOY / "app")
    assert words[0] == "run"
    words = [word.replace("/srv/callboard", ".") for word in words[1:]]
    assert invoke(["check", *words]) == 0
    shown = capsys.readouterr()
    assert "amqp://callboard@rabbitmq:5672/" in shown.out
    assert "s3cret" not in shown.out + shown.err


@each("Deployment", "StatefulSet")
def test_probes_ask_for_what_is_served_where_it_is_served(
    manifest: dict[str, Any], tmp_path: Path
) -> None:
    _, container = pod_of(manifest)
    (port,) = container["ports"]
    assert environment_of(container)["CALLBOARD_HEALTH"] == f"0.0.0.0:{port['containerPort']}"
    paths = {}
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = container[name]["httpGet"]
        assert probe["port"] == port["name"]
        assert Health("", tmp_path).answer(probe["path"]) is not None
        paths[name] = probe["path"]
    assert paths["livenessProbe"] == "/livez", "which does not depend on the broker"
    assert paths["readinessProbe"] == "/readyz"


def test_the_healthchecks_of_containers_ask_for_what_is_served(tmp_path: Path) -> None:
    checks = [
        json.loads(instruction("HEALTHCHECK")[0].partition("CMD ")[2]),
        COMPOSE["services"]["worker"]["healthcheck"]["test"][1:],
    ]
    (exposed,) = instruction("EXPOSE")
    for check in checks:
        assert check[:2] == ["python", "-c"]
        port, path = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", check[2])[0]
        assert port == exposed
        assert Health("", tmp_path).answer(path) is not None
        compile(check[2], "healthcheck", "exec")


def test_whoever_ends_a_worker_waits_longer_than_its_drain() -> None:
    graces = [
        pod_of(m)[0]["terminationGracePeriodSeconds"]
        for _, m in EVERY
        if "template" in m.get("spec", {})
    ]
    graces += [int(COMPOSE["services"]["worker"]["stop_grace_period"].removesuffix("s"))]
    graces += [int(unit(path)["TimeoutStopSec"][0]) for path in UNITS]
    assert len(graces) == 6
    assert min(graces) > Settings().shutdown_timeout + system.OVERTIME_S + system.GRACE + 5


# ── Kubernetes and OpenShift ─────────────────────────────────────────────────


@each()
def test_a_manifest_is_valid_by_the_schema_of_its_kind(manifest: dict[str, Any]) -> None:
    if manifest["kind"] in FOREIGN:
        assert manifest["apiVersion"].partition("/")[0] in ("kustomize.config.k8s.io", "keda.sh")
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that it reads its schemas with
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@each("Deployment", "StatefulSet")
def test_a_pod_carries_the_labels_that_it_is_chosen_by(manifest: dict[str, Any]) -> None:
    labels = manifest["spec"]["template"]["metadata"]["labels"]
    assert manifest["spec"]["selector"]["matchLabels"] == labels == manifest["metadata"]["labels"]


def test_what_is_chosen_by_label_or_name_is_there() -> None:
    for place in ("kubernetes", "openshift"):
        mine = [one for where, one in EVERY if where == place]
        names = {(one["kind"], one.get("metadata", {}).get("name")) for one in mine}
        labels = {name for kind, name in names if kind in ("Deployment", "StatefulSet")}
        for one in mine:
            spec = one.get("spec", {})
            chosen = spec.get("podSelector", spec.get("selector", {}))
            if chosen:
                assert chosen.get("matchLabels", chosen)[LABEL] in labels
            if one["kind"] == "StatefulSet":
                assert ("Service", spec["serviceName"]) in names
            if one["kind"] == "ScaledObject":
                assert ("Deployment", spec["scaleTargetRef"]["name"]) in names
                (trigger,) = spec["triggers"]
                assert ("TriggerAuthentication", trigger["authenticationRef"]["name"]) in names
                assert trigger["metadata"]["queueName"] == "orders"
            if one["kind"] == "TriggerAuthentication":
                (reference,) = spec["secretTargetRef"]
                assert ("Secret", reference["name"]) in names
            if one["kind"] in ("Deployment", "StatefulSet"):
                volumes = {volume["name"]: volume for volume in pod_of(one)[0]["volumes"]}
                assert ("Secret", volumes["connection"]["secret"]["secretName"]) in names


@each("Deployment", "StatefulSet")
def test_what_is_mounted_is_a_volume_and_what_is_written_is_mounted(
    manifest: dict[str, Any],
) -> None:
    spec, container = pod_of(manifest)
    claims = [one["metadata"]["name"] for one in manifest["spec"].get("volumeClaimTemplates", ())]
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert mounts.keys() == {*claims, *(volume["name"] for volume in spec["volumes"])}
    environment = environment_of(container)
    written = {"CALLBOARD_RUNTIME_DIR": "tmp", "CALLBOARD_STATE_DIR": "state"}
    for variable, name in written.items():
        if variable in environment:  # below the mount, which is not the worker's own
            assert Path(mounts[name]) in Path(environment[variable]).parents
    secret = Path(environment["CALLBOARD_CONNECTION_FILE"])
    assert (str(secret.parent), secret.name) == (mounts["connection"], "connection")


@each("Deployment", "StatefulSet")
def test_a_pod_may_do_nothing_that_it_need_not(manifest: dict[str, Any]) -> None:
    spec, container = pod_of(manifest)
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]


def test_the_kustomization_names_files_that_are_there() -> None:
    (whole,) = (one for one in MANIFESTS if one["kind"] == "Kustomization")
    for name in whole["resources"]:
        assert (DEPLOY / "kubernetes" / name).is_file()
    images = {one["name"] for one in whole["images"]}
    used = {pod_of(one)[1]["image"] for one in MANIFESTS if "template" in one.get("spec", {})}
    assert used == images


# ── Docker ────────────────────────────────────────────────────────────────────


def test_the_dockerfile_pleases_its_linter() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_the_worker_as_nobody_in_particular_and_without_a_shell() -> None:
    assert instruction("USER") == ["10001"]
    assert json.loads(instruction("ENTRYPOINT")[0])[-1] == "callboard"
    assert instruction("STOPSIGNAL") == ["SIGTERM"]
    user = pod_of(next(one for one in MANIFESTS if one["kind"] == "Deployment"))[0]
    assert user["securityContext"]["runAsUser"] == 10001


def test_what_the_dockerfile_copies_is_sent_to_the_builder_and_nothing_else() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {
        source
        for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert copied == sent
    assert all((ROOT / source).exists() for source in copied)
    assert "*" in ignored


def test_the_services_of_compose_name_what_is_declared() -> None:
    for service in COMPOSE["services"].values():
        for secret in service["secrets"]:
            assert (secret["source"] if isinstance(secret, dict) else secret) in COMPOSE["secrets"]
        for volume in service.get("volumes", ()):
            assert volume.partition(":")[0] in COMPOSE["volumes"]
        assert service.get("depends_on", {}).keys() <= COMPOSE["services"].keys()
    worker = COMPOSE["services"]["worker"]
    assert worker["environment"]["CALLBOARD_CONNECTION_FILE"] == "/run/secrets/connection"
    build = worker["build"]
    context = (DEPLOY / build["context"]).resolve()
    assert context == ROOT
    assert (context / build["dockerfile"]).is_file()


# ── systemd ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", UNITS, ids=lambda path: str(path.name))
def test_a_unit_is_one_that_systemd_takes(path: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze: install the package systemd")
    text = path.read_text().replace("/opt/callboard/bin/callboard", shutil.which("true") or "")
    copy = tmp_path / path.name.replace("@", "@orders")
    copy.write_text(text)
    done = subprocess.run(
        [analyze, "verify", "--man=no", copy], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_both_units_are_alike_but_for_what_is_said_of_an_instance() -> None:
    one, several = map(unit, UNITS)
    differ = {key for key in one.keys() | several.keys() if one.get(key) != several.get(key)}
    assert differ == {
        "Environment", "EnvironmentFile", "ExecStart", "LoadCredential",
        "RuntimeDirectory", "StateDirectory",
    }  # fmt: skip
