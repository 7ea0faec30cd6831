package io.instanttensor.bridge;

/// Attaches jep to the Python interpreter that hosts this JVM.
///
/// jep itself only knows the other direction: its `MainInterpreter` initialises Python, and does so
/// again where Python is already running, which overwrites `sys.prefix`, `sys.argv` and more. What it
/// does afterwards, for each thread, is all we need: it registers the module `_jep`, from which
/// Python finds Java's classes. So we call that, and nothing before it.
///
/// The functions behind the native methods below are exported by `libjep.so`, yet they are no API of
/// jep's: they were read in version 4.3.2. Whoever starts the JVM binds them (RegisterNatives, under
/// the C names given here) before calling [#attach]. They are bound rather than called through
/// `java.lang.foreign` for two reasons: jep looks its classes up with the class loader of the Java
/// method that called it, which for a foreign call is the boot loader; and the first foreign call of
/// a process costs 100 ms on a small machine.
public final class JepAttachment {
    private JepAttachment() {}

    /// Loads jep's library and registers the Python module `_jep`.
    ///
    /// The work is done on a thread of our own, which never ran Python: jep makes a thread state for
    /// the thread it is called on, and no thread may have two (Python 3.10 and 3.11 abort over that
    /// under `-X dev`). That thread takes the GIL, so the caller must have released it.
    ///
    /// @param library path of `libjep.so`; loaded from here, since the native methods of jep's own
    ///         classes are found only in libraries that their class loader has loaded
    /// @param seed address of a `struct JepThread { globals, tstate, env, classloader, caller }`. Of a
    ///         thread to copy from, jep reads `tstate` alone, to learn its interpreter
    public static void attach(String library, long seed) {
        // The engine warms up meanwhile; the two have nothing to do with each other.
        Rehearsal.startBeside();
        System.load(library);
        var attachment = new JepAttachment();
        var failure = new Throwable[1];
        var thread = new Thread("instanttensor-attach") {
            @Override
            public void run() {
                try {
                    attachment.register(seed);
                } catch (Throwable e) {
                    failure[0] = e;
                }
            }
        };
        thread.setDaemon(true);
        thread.start();
        join(thread);
        if (failure[0] != null) {
            throw new IllegalStateException(failure[0].toString(), failure[0]);
        }
    }

    private void register(long seed) {
        check("cache_frequent_classes", cacheFrequentClasses());
        check("cache_primitive_classes", cachePrimitiveClasses());
        long jepThread = initShared(JepAttachment.class.getClassLoader(), seed, false);
        check("Java_jep_Jep_init_1shared", jepThread);
        // `_jep` stays. The thread state, which no other thread could have used, does not.
        close(jepThread, false);
    }

    private static void check(String function, long result) {
        if (result == 0) {
            throw new IllegalStateException(function + " failed");
        }
    }

    // Waits for the end whatever happens: nobody else knows this thread, and it holds the GIL.
    private static void join(Thread thread) {
        boolean interrupted = false;
        while (thread.isAlive()) {
            try {
                thread.join();
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    // int cache_frequent_classes(JNIEnv *). Not 0 when done. That the JVM passes the class as well
    // goes unnoticed: a second argument in a register.
    private static native int cacheFrequentClasses();

    // int cache_primitive_classes(JNIEnv *)
    private static native int cachePrimitiveClasses();

    // jlong Java_jep_Jep_init_1shared(JNIEnv *, jobject caller, jobject loader, jlong copyFrom, jboolean
    // shareGlobals). Returns a JepThread, with which [#close] is to be called on the same thread.
    private native long initShared(ClassLoader loader, long copyFrom, boolean shareGlobals);

    // void Java_jep_Jep_close(JNIEnv *, jobject caller, jlong jepThread, jboolean closeInterpreter)
    private native void close(long jepThread, boolean closeInterpreter);
}
