// SPDX-License-Identifier: MIT
//
// inlines.cpp - a C++ program full of templates and inlined calls, for symbolize_test.c to look addresses up in.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <numeric>
#include <regex>
#include <string>
#include <vector>

namespace shapes {
struct Base {
    virtual ~Base() = default;
    virtual double area() const = 0;
};
template <int N> struct Polygon : Base {
    std::vector<double> sides;
    explicit Polygon(double side) : sides(N, side) {
    }
    double area() const override {
        return std::accumulate(sides.begin(), sides.end(), 0.0) * N;
    }
};
} // namespace shapes

namespace {
std::map<std::string, std::vector<int>> index_words(const std::string &text) {
    std::map<std::string, std::vector<int>> words;
    const std::regex word("[a-z]+");
    int n = 0;
    for (std::sregex_iterator it(text.begin(), text.end(), word), end; it != end; ++it)
        words[it->str()].push_back(n++);
    return words;
}

struct Pool {
    static char *take(std::size_t size) {
        return new char[size];
    }
};
struct Shelf {
    static char *take(std::size_t size) {
        return new char[size + 1];
    }
};
} // namespace

char *volatile taken;

int main(int count, char **arguments) {
    std::string text = "the quick brown fox jumps over the lazy dog";
    for (int i = 1; i < count; i++)
        text += std::string(" ") + arguments[i];
    std::vector<std::pair<std::string, std::size_t>> order;
    for (const auto &[word, places] : index_words(text))
        order.emplace_back(word, places.size());
    std::sort(order.begin(), order.end(), [](const auto &a, const auto &b) { return a.second > b.second; });
    const shapes::Polygon<3> triangle(2);
    const shapes::Polygon<4> square(3);
    const shapes::Base *const all[] = {&triangle, &square};
    double sum = 0;
    for (const auto *shape : all)
        sum += shape->area();
    const auto first = [](int n) { taken = Pool::take(static_cast<std::size_t>(n)); };
    const auto second = [](int n) { taken = Shelf::take(static_cast<std::size_t>(n)); };
    first(count);
    second(count);
    if (count > 1) {
        const auto third = [](int n) {
            taken = static_cast<char *>(std::malloc(static_cast<std::size_t>(n)));
        };
        third(count);
    }
    std::printf("%s %g\n", order.front().first.c_str(), sum);
    return 0;
}
