"""What may stand in a manifest of KubeRay's kinds: the fields we use of ray.io/v1, and no other.

Written by hand from KubeRay's CRD reference, for its schema is in no package. Pod templates are Kubernetes' own and
are checked by its schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import kubernetes_validate
import yaml
from pydantic import AfterValidator, Field
from ray.serve.schema import ServeDeploySchema

from swiftbolt.config import Strict

# The oldest Kubernetes that is still maintained.
KUBERNETES = "1.34"


def _checked(kind: str, key: str, value: dict[str, Any]) -> dict[str, Any]:
    document = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "checked"}, key: value}
    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as exc:
        raise ValueError(f"{'.'.join(map(str, exc.path))}: {exc.message}") from None
    return value


def _pod_template(value: dict[str, Any]) -> dict[str, Any]:
    return _checked("PodTemplate", "template", value)


def _serve_config(value: str) -> str:
    ServeDeploySchema.model_validate(yaml.safe_load(value))
    return value


PodTemplate = Annotated[dict[str, Any], AfterValidator(_pod_template)]
ServeConfig = Annotated[str, AfterValidator(_serve_config)]
StartParams = dict[str, str]  # strings: KubeRay refuses numbers


class AuthOptions(Strict):
    mode: Literal["token", "disabled"]
    secretName: str | None = None


class AutoscalerOptions(Strict):
    version: Literal["v1", "v2"]
    idleTimeoutSeconds: int = Field(ge=1)
    resources: dict[Literal["requests", "limits"], dict[str, str]]
    securityContext: dict[str, Any]


class HeadGroup(Strict):
    rayStartParams: StartParams
    template: PodTemplate


class WorkerGroup(Strict):
    groupName: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    replicas: int = Field(ge=0)
    minReplicas: int = Field(ge=0)
    maxReplicas: int = Field(ge=0)
    rayStartParams: StartParams
    template: PodTemplate


class ClusterSpec(Strict):
    rayVersion: str
    authOptions: AuthOptions
    enableInTreeAutoscaling: bool = False
    autoscalerOptions: AutoscalerOptions | None = None
    headGroupSpec: HeadGroup
    workerGroupSpecs: list[WorkerGroup]


class JobSpec(Strict):
    entrypoint: str
    submissionMode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]
    backoffLimit: int = Field(ge=0)
    activeDeadlineSeconds: int = Field(gt=0)
    shutdownAfterJobFinishes: bool
    ttlSecondsAfterFinished: int = Field(ge=0)
    submitterPodTemplate: PodTemplate
    rayClusterSpec: ClusterSpec


class ServiceSpec(Strict):
    excludeHeadPodFromServeSvc: bool
    serveConfigV2: ServeConfig
    rayClusterConfig: ClusterSpec


SPECS: dict[str, type[Strict]] = {"RayCluster": ClusterSpec, "RayJob": JobSpec, "RayService": ServiceSpec}


def validate(manifest: dict[str, Any]) -> None:
    """Check a manifest of any kind we deploy.

    Raises:
        ValueError: a field is unknown, missing or wrong.
    """
    if manifest["apiVersion"] != "ray.io/v1":
        try:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as exc:
            raise ValueError(f"{'.'.join(map(str, exc.path))}: {exc.message}") from None
        return
    if unknown := set(manifest) - {"apiVersion", "kind", "metadata", "spec"}:
        raise ValueError(f"unknown fields {sorted(unknown)}")
    # A pod's metadata and a cluster's are one schema.
    _checked("PodTemplate", "template", {"metadata": manifest["metadata"]})
    SPECS[manifest["kind"]].model_validate(manifest["spec"])


def cluster_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The Ray cluster that a manifest of KubeRay describes."""
    spec: dict[str, Any] = manifest["spec"]
    return {"RayCluster": spec, "RayJob": spec.get("rayClusterSpec"), "RayService": spec.get("rayClusterConfig")}[
        manifest["kind"]
    ]
