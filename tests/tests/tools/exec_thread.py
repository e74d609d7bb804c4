"""What a thread finds of itself, and what its process does."""
import os
import threading


def thread():
    tid, pid = threading.get_native_id(), os.getpid()
    own = os.readlink("/proc/thread-self").split("/")
    with open("/proc/thread-self/comm", "w") as comm:
        comm.write("krg-thread")
    named = open("/proc/thread-self/comm").read().strip()
    main = open("/proc/self/comm").read().strip()
    listed = str(tid) in os.listdir("/proc/self/task")
    stat = open("/proc/thread-self/stat").read().split()[0]
    print(own == [str(pid), "task", str(tid)], named, main, listed, stat == str(tid))


runner = threading.Thread(target=thread)
runner.start()
runner.join()
