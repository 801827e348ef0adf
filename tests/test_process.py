"""What tasks set in their process holds while any of them runs, whoever else sets it."""

import threading
import time

from threadpoolctl import ThreadpoolController, threadpool_limits

from dask_gd.worker_env import keep_pages, one_blas_thread


def blas_threads():
    return {library.get_num_threads() for library in ThreadpoolController().select(user_api="blas").lib_controllers}


def test_blas_has_one_thread_while_any_task_runs_and_what_it_had_afterwards():
    seen = []

    def task(seconds):
        with one_blas_thread():
            for _ in range(10):
                seen.append(blas_threads())
                time.sleep(seconds / 10)

    # The main thread claims the limit, as scikit-learn would; tasks of different length overlap and do not.
    with threadpool_limits(2):
        before = blas_threads()
        for _ in range(10):
            threads = [threading.Thread(target=task, args=(0.01 * i,)) for i in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert blas_threads() == before
    assert seen == [{1}] * 400


def test_malloc_is_asked_once_and_says_whether_it_could():
    assert keep_pages() in (True, False)
    assert keep_pages() is keep_pages()
