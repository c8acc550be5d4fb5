"""Drives a BMC with OpenStack's sushy, by basic and by session
authentication: one-time PXE, power on, power off. Prints "content"."""

import sys
import time

import sushy
import sushy.auth
import urllib3

urllib3.disable_warnings()


def power(system, wanted):
    for _ in range(100):
        system.refresh(force=True)
        if system.power_state == wanted:
            return
        time.sleep(0.05)
    sys.exit("power stays %s" % system.power_state)


for auth in (sushy.auth.BasicAuth("admin", "secret"), sushy.auth.SessionAuth("admin", "secret")):
    root = sushy.Sushy(sys.argv[1] + "/redfish/v1", verify=False, auth=auth)
    system = root.get_system(root.get_system_collection().members_identities[0])
    system.set_system_boot_options(
        sushy.BOOT_SOURCE_TARGET_PXE, enabled=sushy.BOOT_SOURCE_ENABLED_ONCE, mode=sushy.BOOT_SOURCE_MODE_UEFI)
    system.refresh(force=True)
    if system.boot.enabled != sushy.BOOT_SOURCE_ENABLED_ONCE:
        sys.exit("override reads back as %s" % system.boot.enabled)
    system.reset_system(sushy.RESET_ON)
    power(system, sushy.SYSTEM_POWER_STATE_ON)
    if system.boot.enabled != sushy.BOOT_SOURCE_ENABLED_DISABLED:
        sys.exit("a one-time override outlives its boot")
    system.reset_system(sushy.RESET_FORCE_OFF)
    power(system, sushy.SYSTEM_POWER_STATE_OFF)
    if not root.get_manager(root.get_manager_collection().members_identities[0]).firmware_version:
        sys.exit("the manager has no firmware version")
print("content")
