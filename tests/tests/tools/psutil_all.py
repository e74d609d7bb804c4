"""What psutil tells of everything, as JSON. Arguments: the root of /proc."""
import json
import sys

import psutil

psutil.PROCFS_PATH = sys.argv[1]

# psutil asks the kernel for these by system calls, not by a file of /proc. A session answers
# them; outside of one the kernel knows the processes of its own node only, by other numbers.
SYSCALLS = set() if sys.argv[1] == "/proc" else {"nice", "ionice", "cpu_affinity"}
ATTRS = sorted(psutil._as_dict_attrnames - SYSCALLS)


def described(pid):
    """All attributes of a process, or what went wrong; None if it has ended."""
    try:
        told = psutil.Process(pid).as_dict(attrs=ATTRS, ad_value="refused")
    except psutil.NoSuchProcess:
        if pid in psutil.pids():
            return {"error": "listed, and there is no such process"}
        return None
    except Exception as error:
        return {"error": repr(error)}
    return {
        "ppid": told["ppid"],
        "name": told["name"],
        "cmdline": " ".join(told["cmdline"]),
        "username": told["username"],
        "created": told["create_time"],
        "cpu": told["cpu_num"],
        "threads": len(told["threads"]),
        "num_threads": told["num_threads"],
        "busy": told["cpu_times"].user + told["cpu_times"].system,
        "rss": told["memory_info"].rss,
        "fds": told["num_fds"],
        "cwd": told["cwd"],
        "exe": told["exe"],
        "mark": (told["environ"] or {}).get("KRG_MARK"),
        "maps": len(told["memory_maps"]),
        "status": told["status"],
        "nice": told.get("nice"),
        "affinity": told.get("cpu_affinity"),
        "refused": sorted(name for name, value in told.items() if value == "refused"),
    }


pids = psutil.pids()
processes = {pid: described(pid) for pid in pids}
print(json.dumps({
    "pids": pids,
    "exists": all(pid in pids for pid in pids) and psutil.Process(pids[-1]).is_running(),
    "processes": {pid: told for pid, told in processes.items() if told is not None},
    "total": psutil.virtual_memory().total,
    "available": psutil.virtual_memory().available,
    "swap": psutil.swap_memory().total,
    "cpus": len(psutil.cpu_times(percpu=True)),
    "idle": [times.idle for times in psutil.cpu_times(percpu=True)],
    "idle_sum": psutil.cpu_times().idle,
    "count": psutil.cpu_count(),
    "boot": psutil.boot_time(),
    "interfaces": sorted(psutil.net_io_counters(pernic=True)),
    "disks": sorted(psutil.disk_io_counters(perdisk=True)),
    "children": sorted(p.pid for p in psutil.Process(1).children()),
}))
