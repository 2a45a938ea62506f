"""CRI's messages made of a Pod, as the kubelet fills them: `sandbox_config(pod)`, `container_config(pod, name)`."""

from labkit.podspec.messages.configs import container_config, sandbox_config
from labkit.podspec.messages.container_env import CreateContainerConfigError
from labkit.podspec.messages.linux_resources import MachineInfo, qos_class

__all__ = ["CreateContainerConfigError", "MachineInfo", "container_config", "qos_class", "sandbox_config"]
