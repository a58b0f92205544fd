"""BLAS is kept to one thread exactly as long as someone asks for it."""

from __future__ import annotations

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from genwm.blas import one_blas_thread


def blas_threads() -> set[int]:
    """Of NumPy's BLAS; SciPy, where other tests have loaded it, brings another, which readers do not use."""
    loaded = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return {int(library["num_threads"]) for library in loaded if "scipy.libs" not in str(library["filepath"])}


def test_one_thread_inside_and_as_many_as_before_after() -> None:
    with threadpool_limits(limits=2, user_api="blas"):
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {2}


def test_who_ends_first_does_not_lift_the_limit_of_another_and_the_last_lifts_it() -> None:
    # Two readings in two threads of a service overlap like this.
    with threadpool_limits(limits=2, user_api="blas"):
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert blas_threads() == {1}
        second.__exit__(None, None, None)
        assert blas_threads() == {2}


def test_the_limit_is_lifted_after_an_error() -> None:
    with threadpool_limits(limits=2, user_api="blas"):
        with pytest.raises(ValueError), one_blas_thread():  # noqa: PT011
            raise ValueError
        assert blas_threads() == {2}
