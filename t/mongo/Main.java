import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;

import java.util.List;

/** A MongoDB in memory on the given port of 127.0.0.1. */
public final class Main {
    private Main() {
    }

    /** What it says it is: PyMongo talks to no older one. */
    private enum Version implements MongoVersion {
        MONGO_4_4;

        @Override
        public List<Integer> getVersionArray() {
            return List.of(4, 4, 0);
        }

        @Override
        public int getWireVersion() {
            return 9;
        }
    }

    public static void main(String[] args) {
        MongoServer server = new MongoServer(new MemoryBackend().version(Version.MONGO_4_4));
        server.bind("127.0.0.1", Integer.parseInt(args[0]));
        System.out.println("ready");
    }
}
