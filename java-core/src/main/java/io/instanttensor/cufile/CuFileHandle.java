package io.instanttensor.cufile;

/// A file that libcufile knows, from its registration until it is closed, which comes before its descriptor is. Any
/// thread may read whose device is current.
public final class CuFileHandle implements AutoCloseable {
    private final CuFileDriver driver;
    private final long handle;
    private boolean closed;

    private CuFileHandle(CuFileDriver driver, long handle) {
        this.driver = driver;
        this.handle = handle;
    }

    /// @param fd that stays open, and the caller's
    /// @throws CuFileException where libcufile does not read its file system
    public static CuFileHandle register(int fd) throws CuFileException {
        CuFileDriver driver = CuFileDriver.get();
        return new CuFileHandle(driver, driver.register(fd));
    }

    /// One read, which may bring less than asked for; 0 at the end of the file. The bytes have arrived when it returns.
    ///
    /// @param base address on the device that is current
    /// @param baseOffset from there to where the bytes go
    public long read(long base, long baseOffset, long bytes, long fileOffset) throws CuFileException {
        return driver.read(handle, base, bytes, fileOffset, baseOffset);
    }

    @Override
    public synchronized void close() {
        if (!closed) {
            closed = true;
            driver.deregister(handle);
        }
    }
}
