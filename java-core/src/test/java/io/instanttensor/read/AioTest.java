package io.instanttensor.read;

class AioTest extends ReadContract {
    @Override
    Backend backend() {
        return Backend.AIO;
    }

    @Override
    String call() {
        return "pread";
    }
}
