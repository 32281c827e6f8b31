import de.bwaldvogel.mongo.MongoCollection;
import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.CursorRegistry;
import de.bwaldvogel.mongo.backend.DefaultQueryMatcher;
import de.bwaldvogel.mongo.backend.Index;
import de.bwaldvogel.mongo.backend.IndexKey;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.backend.memory.MemoryDatabase;
import de.bwaldvogel.mongo.backend.memory.index.MemoryUniqueIndex;
import de.bwaldvogel.mongo.bson.Document;
import java.util.List;
import java.util.Objects;

/**
 * A MongoDB in memory on the given port of 127.0.0.1. Of partial indexes mongo-java-server knows
 * nothing; here a unique one leaves out what its partialFilterExpression does not match.
 */
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
        MongoServer server = new MongoServer(new Backend().version(Version.MONGO_4_4));
        server.bind("127.0.0.1", Integer.parseInt(args[0]));
        System.out.println("ready");
    }

    private static final class Backend extends MemoryBackend {
        @Override
        public MemoryDatabase openOrCreateDatabase(String name) {
            return new Database(name, getCursorRegistry());
        }
    }

    private static final class Database extends MemoryDatabase {
        private Document partial;

        Database(String name, CursorRegistry cursors) {
            super(name, cursors);
        }

        @Override
        protected void addIndex(Document description) {
            Document outer = partial; // a new collection's index of ids comes in between
            partial = (Document) description.get("partialFilterExpression");
            try {
                super.addIndex(description);
            } finally {
                partial = outer;
            }
        }

        @Override
        protected Index<Integer> openOrCreateUniqueIndex(
                String collection, String name, List<IndexKey> keys, boolean sparse) {
            return partial == null
                    ? super.openOrCreateUniqueIndex(collection, name, keys, sparse)
                    : new PartialIndex(name, keys, partial);
        }
    }

    private static final class PartialIndex extends MemoryUniqueIndex {
        private final DefaultQueryMatcher matcher = new DefaultQueryMatcher();
        private final Document partial;

        PartialIndex(String name, List<IndexKey> keys, Document partial) {
            super(name, keys, false);
            this.partial = partial;
        }

        private boolean has(Document document) {
            return matcher.matches(document, partial);
        }

        @Override
        public Integer getPosition(Document document) {
            return has(document) ? super.getPosition(document) : null;
        }

        @Override
        public void checkAdd(Document document, MongoCollection<Integer> collection) {
            if (has(document)) {
                super.checkAdd(document, collection);
            }
        }

        @Override
        public void add(Document document, Integer position, MongoCollection<Integer> collection) {
            if (has(document)) {
                super.add(document, position, collection);
            }
        }

        @Override
        public Integer remove(Document document) {
            return has(document) ? super.remove(document) : null;
        }

        @Override
        public void checkUpdate(
                Document before, Document after, MongoCollection<Integer> collection) {
            if (has(before)) {
                if (has(after)) {
                    super.checkUpdate(before, after, collection);
                }
            } else {
                checkAdd(after, collection);
            }
        }

        @Override
        public void updateInPlace(
                Document before,
                Document after,
                Integer position,
                MongoCollection<Integer> collection) {
            if (!has(before) || !Objects.equals(getKeyValues(before), getKeyValues(after))) {
                remove(before);
                add(after, position, collection);
            }
        }

        @Override
        public boolean canHandle(Document query) {
            return false;
        }
    }
}
