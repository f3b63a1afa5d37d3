"""The adapter to Thespian: all of it that is replaced, and why.

- `multiprocCommon.setProcName` (`base.py`): it searches the path in each process.
- `actorManager.withPossibleInitArgs` (`base.py`): it asks three questions for each actor, whose
  answers are known.
- `MultiProcAdmin` (`base.py`): its logger outlives a launcher that is killed; ours has none, and
  ends with its only child.
- `multiprocessCommon` (`base.py`): the admin is a child of the launcher, in a session of its own.
- `TCPTransport` (`transport.py`): frames are sealed, sockets stay registered, and nothing waits
  for a host that is gone.
- `logging.root` and `logging.Logger.manager` (`stage.py`): Thespian takes the loggers of a process
  that it starts; they are put back.

Nothing else is touched. `stage.py` has the one Thespian actor, which plays a plain one.
"""
