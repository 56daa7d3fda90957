"""A ranking service over HTTP, to copy and change: the library behind FastAPI and uvicorn.

python -m examples.ranking_service --bundle artifacts/demo
"""
