// Exceptions through many frames, with destructors that allocate while they unwind. With an argument: few of them.
#include <iostream>
#include <map>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

namespace {
int destroyed;

struct Guard {
    std::string name;
    explicit Guard(int n) : name("a name that is too long to be kept inside " + std::to_string(n)) {}
    ~Guard() {
        std::vector<std::string> copies(3, name);
        destroyed += static_cast<int>(copies.size());
    }
};

int descend(int depth) {
    Guard guard(depth);
    if (depth == 0)
        throw std::runtime_error(guard.name);
    return descend(depth - 1) + 1;
}
} // namespace

int main(int argc, char **) {
    const int rounds = argc > 1 ? 40 : 500;
    std::map<std::string, int> lengths;
    for (int i = 0; i < rounds; i++) {
        try {
            descend(i % 9);
        } catch (const std::exception &error) {
            lengths[error.what()] += i;
        }
    }
    const std::regex number("[a-z ]*([0-9]+)");
    std::smatch match;
    for (const auto &entry : lengths)
        destroyed += std::regex_match(entry.first, match, number);
    std::cout << lengths.size() << " " << destroyed << "\n";
}
