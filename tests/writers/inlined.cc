// SPDX-License-Identifier: MIT
//
// inlined.cc - a C++ program whose allocations are known: through inlined functions, templates, lambdas and
// recursion. Nothing is reallocated. It is recorded by record.py, and run under Valgrind's DHAT beside it.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace shapes {

struct Node {
    std::unique_ptr<Node> left, right;
    char payload[24];
};

[[gnu::always_inline]] inline void *take(std::size_t size) {
    return std::malloc(size);
}

template <typename T> [[gnu::noinline]] T *make_array(std::size_t count) {
    T *const array = static_cast<T *>(take(count * sizeof(T)));
    array[0] = T(count); /* after the call, or it would be a jump and this function not on the stack */
    return array;
}

[[gnu::noinline]] std::unique_ptr<Node> grow(int depth) {
    auto node = std::make_unique<Node>();
    if (depth > 0) {
        node->left = grow(depth - 1);
        node->right = grow(depth - 1);
    }
    return node;
}

} // namespace shapes

int main() {
    std::size_t sum = 0;
    const auto hold = [&sum](std::size_t n) {
        int *const numbers = shapes::make_array<int>(n);
        sum += static_cast<std::size_t>(numbers[0]);
        return numbers;
    };
    for (std::size_t i = 1; i <= 200; i++)
        std::free(hold(i));
    double *const kept = shapes::make_array<double>(5000);
    const auto tree = shapes::grow(9);
    std::map<int, std::string> names;
    for (int i = 0; i < 300; i++)
        names[i] = std::string(static_cast<std::size_t>(i % 90 + 20), 'x');
    for (int i = 0; i < 300; i += 2)
        names.erase(i);
    std::vector<std::vector<long>> rows(40, std::vector<long>(128));
    for (const auto &row : rows)
        sum += row.size();
    std::printf("%zu %zu %.0f %d\n", sum, names.size(), kept[0], tree->left != nullptr);
    return 0; /* `kept` is never freed */
}
