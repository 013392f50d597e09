"""The rules of a queue, as simply as they can be written: a list of dicts, searched from end to end."""

from typing import Any

from queues import Done, Reject, Release, Retry


class Model:
    def __init__(self, lease):
        self.lease = lease
        self.jobs = []
        self.dead = []
        self.dedups = {}
        self.seq = 0

    def put(self, job_id, kind, dedup, delay, priority, now):
        known = self.dedups.get(dedup)
        if dedup is not None and known is not None and (known[1] is None or known[1] > now):
            return known[0]
        if dedup is not None:
            self.dedups[dedup] = (job_id, None)
        self.seq += 1
        self.jobs.append(
            {
                "id": job_id, "kind": kind, "dedup": dedup, "priority": priority, "due": now + delay, "seq": self.seq,
                "state": "ready", "owner": "", "epoch": 0, "until": 0.0, "attempts": 0, "started": False,
                "releases": 0, "aside": 0.0, "error": None, "fails": [],
            }
        )  # fmt: skip
        return job_id

    def claim(self, owner, known, grace, max_attempts, limit, start, now):
        rescued = buried = set_aside = 0
        for job in sorted(self.jobs, key=lambda job: job["until"]):
            if job["state"] == "running" and job["until"] <= now:
                rescued += 1
                if job["started"]:
                    job["error"] = f"the lease ran out in attempt {job['attempts']}: "
                    job["error"] += f"its holder {job['owner']} died, stalled or lost the store"
                    self.fail(job, job["error"], now)
                    if job["attempts"] >= max_attempts:
                        self.bury(job, now)
                        buried += 1
                        continue
                self.make_ready(job)
        for job in sorted(self.jobs, key=lambda job: (job["aside"], job["id"])):
            if job["state"] == "aside" and job["aside"] <= now - grace:
                if job["kind"] in known:
                    break
                self.bury(job, now)
                buried += 1
        taken: list[dict[str, Any]] = []
        for job in sorted(self.jobs, key=lambda job: (job["priority"], job["due"], job["seq"])):
            if len(taken) == limit:
                break
            due = job["state"] == "ready" and job["due"] <= now
            if due and job["kind"] not in known:
                job.update(state="aside", aside=now)
                set_aside += 1
            elif due or (job["state"] == "aside" and job["kind"] in known):
                job.update(state="running", owner=owner, epoch=job["epoch"] + 1, until=now + self.lease)
                job.update(started=start, attempts=job["attempts"] + start)
                taken.append(job)
        shown = [(job["id"], job["epoch"], job["attempts"], job["releases"], job["error"]) for job in taken]
        return shown, rescued, buried, set_aside

    def ours(self, job_id, owner, epoch):
        for job in self.jobs:
            if (job["id"], job["state"], job["owner"], job["epoch"]) == (job_id, "running", owner, epoch):
                return job
        return None

    def start(self, job):
        job.update(attempts=job["attempts"] + 1 - job["started"], started=True)

    def extend(self, job, now):
        job["until"] = now + self.lease

    def finish(self, job, outcome, window, now):
        match outcome:
            case Done():
                self.jobs.remove(job)
                self.forget_later(job, window, now)
            case Retry():
                job["error"] = outcome.error
                self.fail(job, outcome.error, now)
                self.make_ready(job)
                job["due"] = now + outcome.delay
            case Reject():
                job["error"] = outcome.error or outcome.reason
                self.fail(job, job["error"], now)
                self.bury(job, now)
            case Release():
                job.update(attempts=job["attempts"] - job["started"], releases=job["releases"] + job["started"])
                self.make_ready(job)
                if outcome.delay:
                    job["due"] = now + outcome.delay

    def requeue(self, job_id, now):
        for job in self.dead:
            if job["id"] == job_id:
                self.dead.remove(job)
                self.seq += 1
                job.update(attempts=0, releases=0, due=now, seq=self.seq)
                self.make_ready(job)
                self.jobs.append(job)
                return 1
        return 0

    def drop(self, job_id, window, now):
        for job in self.dead:
            if job["id"] == job_id:
                self.dead.remove(job)
                self.forget_later(job, window, now)
                return 1
        return 0

    def counts(self, now):
        states = [job["state"] for job in self.jobs]
        ready = sum(job["state"] == "ready" and job["due"] <= now for job in self.jobs)
        delayed = states.count("ready") - ready
        return ready, delayed, states.count("running"), states.count("aside"), len(self.dead)

    def next_event(self, known, grace, now):
        times = [job["due"] - now for job in self.jobs if job["state"] == "ready"]
        times += [job["until"] - now for job in self.jobs if job["state"] == "running"]
        times += [0.0 for job in self.jobs if job["state"] == "aside" and job["kind"] in known]
        times += [job["aside"] + grace - now for job in self.jobs if job["state"] == "aside"]
        return max(0.0, min(times, default=1e9))

    def fail(self, job, error, now):
        job["fails"].append((job["attempts"], now, job["owner"], error or "no error was given"))
        if len(job["fails"]) > 10:
            del job["fails"][1]

    def bury(self, job, now):
        self.jobs.remove(job)
        job.update(state="dead", died=now)
        self.dead.append(job)

    def make_ready(self, job):
        job.update(state="ready", owner="", until=0.0, started=False)

    def forget_later(self, job, window, now):
        if job["dedup"] is not None:
            self.dedups[job["dedup"]] = (job["id"], now + window)
