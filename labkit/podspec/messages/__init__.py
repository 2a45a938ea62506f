"""CRI's messages made of a Pod, as the kubelet fills them: `sandbox_config(pod)`, `container_config(pod, name)`."""

from labkit.podspec.messages.configs import container_config, sandbox_config
from labkit.podspec.messages.environment import CreateContainerConfigError
from labkit.podspec.messages.resources import Machine, qos_class

__all__ = ["CreateContainerConfigError", "Machine", "container_config", "qos_class", "sandbox_config"]
