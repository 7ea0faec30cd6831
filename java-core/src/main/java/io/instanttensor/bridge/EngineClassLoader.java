package io.instanttensor.bridge;

import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;

/// Loads the engine into a JVM that was started by somebody else, without it.
///
/// Two things differ from the class path. `java.library.path` is fixed by then, so this loader tells
/// JCuda where its native library lies; failing that, JCuda would unpack one to a shared temporary
/// folder. And the engine sees the JDK and its own jar, never the program's libraries, whose
/// versions it would otherwise have to agree with.
public final class EngineClassLoader extends URLClassLoader {
    static {
        registerAsParallelCapable();
    }

    private final Path nativeFolder;

    /// @param jar the engine's jar
    /// @param nativeFolder where the native libraries lie, as files
    public EngineClassLoader(String jar, String nativeFolder) throws MalformedURLException {
        super("instanttensor", new URL[] {Path.of(jar).toUri().toURL()}, getPlatformClassLoader());
        this.nativeFolder = Path.of(nativeFolder).toAbsolutePath();
    }

    /// The path of a library in our folder, or null: Java then looks where it always does.
    @Override
    protected String findLibrary(String name) {
        Path library = nativeFolder.resolve(System.mapLibraryName(name));
        return Files.isRegularFile(library) ? library.toString() : null;
    }
}
