// Native allocations under interpreted frames.
import java.util.*;
import java.util.zip.*;

public class Work {
    static int deeper(int n) throws Exception {
        if (n > 0)
            return deeper(n - 1) + 1;
        Deflater deflater = new Deflater();
        deflater.setInput(new byte[1000]);
        deflater.finish();
        int written = deflater.deflate(new byte[2000]);
        deflater.end();
        return written;
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Integer> map = new TreeMap<>();
        for (int i = 0; i < 5000; i++)
            map.put("k" + i, i);
        int sum = 0;
        for (int i = 0; i < 300; i++)
            sum += deeper(i % 40);
        System.out.println(map.size() + " " + sum);
    }
}
