//! Wiring: runtimes, tasks, start and stop of the agent.
