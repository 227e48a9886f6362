"""Every command of control to the function that carries it out."""

from __future__ import annotations

from typing import assert_never

from dwd.meta.core.control import buckets, cluster, commands, jobs, keys, layouts, nodes, users
from dwd.meta.core.control.job_commands import JobCommand
from dwd.meta.core.control.key_commands import KeyCommand
from dwd.meta.core.control.state import Control
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.tx import At


def apply(  # noqa: C901, PLR0911, PLR0912 - a table
    control: Control, command: commands.ControlCommand, at: At
) -> Receipt:
    """Raises the DwError the command earned, before its first write."""
    if isinstance(command, JobCommand):
        return jobs.apply(control, command, at)
    if isinstance(command, KeyCommand):
        return keys.apply(control, command, at)
    if isinstance(command, commands.UserCommand):
        return _apply_to_users(control, command, at)
    match command:
        case commands.InitialiseCluster():
            return cluster.initialise_cluster(control, command, at)
        case commands.AddNode():
            return nodes.add_node(control, command, at)
        case commands.UpdateNode():
            return nodes.update_node(control, command, at)
        case commands.RemoveNode():
            return nodes.remove_node(control, command, at)
        case commands.SetNodeLiveness():
            return nodes.set_node_liveness(control, command, at)
        case commands.SetNodeStanding():
            return nodes.set_node_standing(control, command, at)
        case commands.AddDevice():
            return nodes.add_device(control, command, at)
        case commands.SetDeviceState():
            return nodes.set_device_state(control, command, at)
        case commands.SetDeviceDraining():
            return nodes.set_device_draining(control, command, at)
        case commands.StageLayout() | commands.DropStagedLayout() | commands.ApplyLayout() | commands.RetireLayouts():
            return layouts.apply(control, command, at)
        case commands.CreateBucket():
            return buckets.create_bucket(control, command, at)
        case commands.SetBucketAtRest():
            return buckets.set_bucket_at_rest(control, command, at)
        case commands.BeginDeleteBucket():
            return buckets.begin_delete_bucket(control, command, at)
        case commands.CancelDeleteBucket():
            return buckets.cancel_delete_bucket(control, command, at)
        case commands.FinishDeleteBucket():
            return buckets.finish_delete_bucket(control, command, at)
        case commands.SetBucketPolicy():
            return buckets.set_bucket_policy(control, command, at)
        case commands.SetSetting():
            return cluster.set_setting(control, command, at)
        case commands.SetShardMap():
            return cluster.set_shard_map(control, command, at)
        case _:
            assert_never(command)


def _apply_to_users(  # noqa: PLR0911 - a table
    control: Control, command: commands.UserCommand, at: At
) -> Receipt:
    match command:
        case commands.CreateUser():
            return users.create_user(control, command, at)
        case commands.SetUserState():
            return users.set_user_state(control, command, at)
        case commands.DeleteUser():
            return users.delete_user(control, command, at)
        case commands.CreateAccessKey():
            return users.create_access_key(control, command, at)
        case commands.SetAccessKeyState():
            return users.set_access_key_state(control, command, at)
        case commands.DeleteAccessKey():
            return users.delete_access_key(control, command, at)
        case commands.CreateJoinToken():
            return users.create_join_token(control, command, at)
        case commands.UseJoinToken():
            return users.use_join_token(control, command, at)
        case _:
            assert_never(command)
