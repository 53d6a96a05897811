"""Ray, as far as a sweep needs it: join or start a cluster, list its nodes, put one agent on each.

address.py      what the person wrote -> where the head listens, and whether anything answers there
inquiry.py      may it be used? (question.py asks it in a process of its own)
environment.py  what Ray reads before it is imported; the token
session.py      the folder of a cluster that we start
connection.py   Cluster: connect, nodes, agents
membership.py   which nodes are alive, without ever waiting for a head that is gone
node.py         what a node's own Ray may do to our work, as lines for the person
closing.py      leaving Ray in bounded time
probe.py        the profiles of all nodes
"""

from orchestrator.cluster.connection import Cluster, check_address, connect, reason_of
from orchestrator.cluster.membership import RayNode
from orchestrator.cluster.probe import probe_cluster

__all__ = ["Cluster", "RayNode", "check_address", "connect", "probe_cluster", "reason_of"]
