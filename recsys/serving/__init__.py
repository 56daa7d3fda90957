"""Answers from a published bundle, for services, people and nightly jobs."""
